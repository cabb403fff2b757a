//! The deployment file as a file: what may be read, who writes at one time, and how nothing is ever lost.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use tempfile::NamedTempFile;

use super::open::{open, regular};
use super::path::behind_links;
#[cfg(unix)]
use super::path::is_root;

/// What is larger is not a page of settings.
const MAX_SIZE: u64 = 1 << 20;

/// For how long another process may hold the lock. It writes a page.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// What became of a text that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there, and on the disk.
    Done,
    /// Nothing was written, since the file no longer holds what the text was made from.
    Outdated,
}

/// What is in a file; of one that does not exist, nothing.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before it is opened, too: to open a device may do something.
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        metadata => regular(&metadata?)?,
    }
    let file = open(OpenOptions::new().read(true), path, true)?;
    let mut bytes = Vec::new();
    match file.take(MAX_SIZE + 1).read_to_end(&mut bytes)? as u64 {
        ..=MAX_SIZE => Ok(bytes),
        _ => Err(io::Error::other("it is larger than 1 MiB")),
    }
}

pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether there is room for a file that is to be made: whether its folder is there already, or could be made.
/// Asked, not tried: nothing is written.
///
/// # Errors
/// With the folder in which nobody like us may write.
pub(crate) fn is_writable(path: &Path) -> io::Result<bool> {
    let target = behind_links(path)?;
    let folder = folder_of(&target);
    let is_there = |folder: &&Path| fs::symlink_metadata(folder).is_ok();
    let nearest = folder.ancestors().find(is_there).unwrap_or(Path::new("."));
    let in_it = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", nearest.display()));
    if !fs::metadata(nearest).map_err(in_it)?.is_dir() {
        return Err(in_it(ErrorKind::NotADirectory.into()));
    }
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        access(nearest, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| in_it(error.into()))?;
    }
    Ok(nearest == folder)
}

/// A file that others can read, though it holds a secret.
pub(crate) struct LooseMode {
    path: PathBuf,
    mode: u32,
}

impl fmt::Display for LooseMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "others can read the token in {}, whose mode is {:04o}", self.path.display(), self.mode)
    }
}

impl LooseMode {
    /// The command that mends it.
    pub(crate) fn remedy(&self) -> String {
        format!("chmod 600 '{}'", self.path.display().to_string().replace('\'', r"'\''"))
    }
}

/// Whether others than the owner of a file may do anything with it.
pub(crate) fn loose_mode(path: &Path) -> Option<LooseMode> {
    let mode = mode_of(path)?;
    (mode & 0o077 != 0).then(|| LooseMode { path: path.to_owned(), mode })
}

#[cfg(unix)]
pub(crate) fn mode_of(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(fs::metadata(path).ok()?.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
pub(crate) const fn mode_of(_: &Path) -> Option<u32> {
    None
}

/// One process at a time. The lock is a file beside the other, since that one is replaced. It ends with the process.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut options = OpenOptions::new();
    // For reading too: to open a pipe for writing alone fails without a word of why.
    options.read(true).write(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let in_it = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", name.display()));
    // Another user who may write to the folder is not to choose what root makes or waits for elsewhere.
    let file = match open(options.clone().create_new(true), &name, false) {
        Ok(made) => {
            // Of root's making it would shut out the user whose file it is.
            let _ = give_to_owner_of(path, &made);
            made
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => open(options.create(true), &name, false).map_err(in_it)?,
        Err(error) => return Err(error),
    };
    wait_for(&file).map_err(in_it)?;
    Ok(file)
}

/// Locks a file, unless another process holds it for too long.
fn wait_for(file: &File) -> io::Result<()> {
    let end = Instant::now() + LOCK_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() > end => {
                return Err(io::Error::new(ErrorKind::TimedOut, "another process holds the lock"));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Written beside, synced, then renamed: nobody ever sees half a file, nor one that others may read. A file that is a
/// mount of its own, as Docker makes it of `-v file:file`, cannot be replaced, and is written in place.
pub(super) fn replace(target: &Path, before: &str, text: &str) -> io::Result<Written> {
    let folder = folder_of(target);
    // Made with mode 0600, whatever the umask. It goes when it is dropped, after a full disk as well.
    let mut file = NamedTempFile::with_prefix_in(".deployment-", folder)?;
    file.write_all(text.as_bytes())?;
    keep_owner(file.as_file(), target);
    file.as_file().sync_all()?;
    match file.persist(target) {
        Ok(_) => {
            #[cfg(unix)]
            File::open(folder)?.sync_all()?;
            Ok(Written::Done)
        }
        Err(failure) if matches!(failure.error.kind(), ErrorKind::ResourceBusy | ErrorKind::CrossesDevices) => {
            write_in_place(target, before, text, failure.file)
        }
        Err(failure) => Err(failure.error),
    }
}

/// The copy of the new text stays beside until the file itself holds it, so that a crash in between loses nothing.
fn write_in_place(target: &Path, before: &str, text: &str, copy: NamedTempFile) -> io::Result<Written> {
    let mut file = open(OpenOptions::new().read(true).write(true), target, false)?;
    // A lock beside it is not seen from the other side of the mount. This one is.
    wait_for(&file)?;
    let mut current = String::new();
    file.read_to_string(&mut current)?;
    if current != before {
        return Ok(Written::Outdated);
    }
    let Err(error) = overwrite(&mut file, text) else { return Ok(Written::Done) };
    // What was there before needs no room that it did not have.
    if overwrite(&mut file, before).is_ok() {
        return Err(error);
    }
    let (_, kept) = copy.keep().map_err(|_| io::Error::new(error.kind(), format!("{error}; it is damaged")))?;
    Err(io::Error::new(error.kind(), format!("{error}; it is damaged, and {} is what it should hold", kept.display())))
}

fn overwrite(file: &mut File, text: &str) -> io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}

/// What root renews stays readable for the user whose file it is.
fn keep_owner(file: &File, target: &Path) {
    if let Err(error) = give_to_owner_of(target, file) {
        tracing::warn!("{} now belongs to another user than before: {error}", target.display());
    }
}

#[cfg(unix)]
fn give_to_owner_of(target: &Path, file: &File) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    // What root makes anew belongs to the owner of the folder.
    let of_folder = || fs::metadata(folder_of(target)).ok().filter(|_| is_root());
    let (Some(old), Ok(new)) = (fs::metadata(target).ok().or_else(of_folder), file.metadata()) else { return Ok(()) };
    if (old.uid(), old.gid()) == (new.uid(), new.gid()) { Ok(()) } else { fchown(file, Some(old.uid()), Some(old.gid())) }
}

#[cfg(not(unix))]
const fn give_to_owner_of(_: &Path, _: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::{Written, is_writable, loose_mode, read, write_in_place};
    use std::{
        fs::{self, Permissions},
        io::Write,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };
    use tempfile::{NamedTempFile, tempdir};

    #[test]
    fn whether_it_could_be_written_is_asked_behind_links_and_above_what_is_not_there() {
        let folder = tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        symlink("new/deployment.yaml", at("link")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (name, expected) in
            [("x.yaml", Some(true)), ("a/b/x.yaml", Some(false)), ("link", Some(false)), ("file/x.yaml", None), ("loop", None)]
        {
            assert_eq!(is_writable(&at(name)).ok(), expected, "{name}");
        }
        assert!(is_writable(&at("file/x.yaml")).unwrap_err().to_string().contains("/file: "), "the folder is named");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing was made");
    }

    #[test]
    fn a_mode_is_loose_as_soon_as_others_may_do_anything() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("it's.yaml");
        assert!(loose_mode(&path).is_none());
        fs::write(&path, "").unwrap();
        for (mode, is_loose) in
            [(0o600, false), (0o400, false), (0o700, false), (0o640, true), (0o604, true), (0o620, true), (0o644, true)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(loose_mode(&path).is_some(), is_loose, "{mode:o}");
        }
        let loose = loose_mode(&path).unwrap();
        assert!(loose.to_string().ends_with("whose mode is 0644"));
        assert!(loose.remedy().ends_with(r"it'\''s.yaml'"), "{}", loose.remedy());
    }

    #[test]
    fn in_place_it_stays_the_same_file_and_nothing_is_left_beside() {
        let folder = tempdir().unwrap();
        let target = folder.path().join("deployment.yaml");
        for (before, after) in [("a: 1\n", "a: 1\nworker_auth_token: x\n"), ("a: 1\nb: 2\n", "c\n"), ("", "x: 1\n")] {
            fs::write(&target, before).unwrap();
            let inode = fs::metadata(&target).unwrap().ino();
            let copy = || {
                let mut copy = NamedTempFile::new_in(folder.path()).unwrap();
                copy.write_all(after.as_bytes()).unwrap();
                copy
            };
            assert_eq!(write_in_place(&target, "something else", after, copy()).unwrap(), Written::Outdated);
            assert_eq!(read(&target).unwrap(), before.as_bytes());
            assert_eq!(write_in_place(&target, before, after, copy()).unwrap(), Written::Done);
            assert_eq!(read(&target).unwrap(), after.as_bytes());
            assert_eq!(fs::metadata(&target).unwrap().ino(), inode);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }
}
