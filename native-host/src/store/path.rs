//! The deployment file behind links and in folders that are to be made: root neither follows nor is led by other users.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    path::{Component, Path, PathBuf},
};

/// As many as Linux follows.
const MAX_LINKS: usize = 40;

/// The file that is meant, whether it exists yet or not, with no link in its path.
///
/// # Errors
/// When there are too many links, or when this is root and another user could turn one of them elsewhere.
pub(super) fn behind_links(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut rest: VecDeque<OsString> = parts(&path).collect();
    let (mut resolved, mut links) = (PathBuf::new(), 0);
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            resolved.pop();
            continue;
        }
        let folder = resolved.clone();
        resolved.push(&part);
        let Ok(target) = fs::read_link(&resolved) else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Err(io::Error::other("too many symbolic links lead on from it"));
        }
        check_link(&folder, &resolved)?;
        resolved = folder;
        parts(&target).rev().for_each(|part| rest.push_front(part));
    }
    Ok(resolved)
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter(|part| *part != Component::CurDir).map(|part| part.as_os_str().to_owned())
}

/// Root follows links of root only, in folders of root: others would choose what root writes to.
#[cfg(unix)]
fn check_link(folder: &Path, link: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    if !is_root() {
        return Ok(());
    }
    let owners = [fs::metadata(folder)?.uid(), fs::symlink_metadata(link)?.uid()];
    let Some(other) = owners.into_iter().find(|owner| *owner != 0) else { return Ok(()) };
    Err(io::Error::new(
        ErrorKind::PermissionDenied,
        format!(
            "{} is a symbolic link of user {other}, which root does not follow; run this as that user, or name the file behind it \
             with NODETOOL_CONFIG_PATH",
            link.display()
        ),
    ))
}

#[cfg(not(unix))]
const fn check_link(_: &Path, _: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Makes a folder and those above it, closed to others, where they are not there. Each belongs to the owner of the one above it,
/// so that root shuts no user out.
pub(super) fn create_private_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> = folder.ancestors().take_while(|folder| fs::symlink_metadata(folder).is_err()).collect();
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    for folder in missing.into_iter().rev() {
        match builder.create(folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                made?;
                give_to_owner_of_parent(folder)?;
            }
        }
    }
    if fs::metadata(folder)?.is_dir() { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) }
}

#[cfg(unix)]
fn give_to_owner_of_parent(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, lchown};
    let Some(parent) = folder.parent().filter(|_| is_root()) else { return Ok(()) };
    let parent = fs::metadata(parent)?;
    if parent.uid() == 0 { Ok(()) } else { lchown(folder, Some(parent.uid()), Some(parent.gid())) }
}

#[cfg(not(unix))]
const fn give_to_owner_of_parent(_: &Path) -> io::Result<()> {
    Ok(())
}
