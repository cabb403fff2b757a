//! How a file is opened: only if it is one, and without waiting.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    path::Path,
};

pub(super) fn regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(io::Error::other(format!("it is {}, not a file", kind(metadata)))) }
}

/// Opens a file, and nothing else: a pipe that another user has put in its place neither keeps this waiting nor is read.
pub(super) fn open(options: &OpenOptions, path: &Path, follows_links: bool) -> io::Result<File> {
    #[cfg(unix)]
    let options = &{
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = if follows_links { OFlags::NONBLOCK } else { OFlags::NONBLOCK | OFlags::NOFOLLOW };
        let mut options = options.clone();
        options.custom_flags(flags.bits().cast_signed());
        options
    };
    #[cfg(not(unix))]
    let _ = follows_links;
    let file = options.open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

fn kind(metadata: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    if metadata.is_dir() { "a folder" } else { "a device" }
}
