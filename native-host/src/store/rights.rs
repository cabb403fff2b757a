//! What root does in a folder of another user, done with that user's rights: whatever they turn elsewhere meanwhile, it leads only to
//! what they may write anyway.

#[cfg(target_os = "linux")]
pub(super) use linux::Lowered;

/// Elsewhere rights belong to the process and not to the thread.
#[cfg(not(target_os = "linux"))]
pub(super) struct Lowered;

#[cfg(not(target_os = "linux"))]
impl Lowered {
    pub(super) const fn to_owner_of(_: &std::path::Path) -> std::io::Result<Option<Self>> {
        Ok(None)
    }

    pub(super) const fn said_of(_: Option<&Self>, error: std::io::Error) -> std::io::Error {
        error
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

    use rustix::{
        process::{Gid, Uid, getegid, getgroups},
        thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
    };

    use crate::store::path::is_root;

    /// The rights of this thread, lowered until this is dropped.
    pub(in crate::store) struct Lowered {
        /// Whose they are.
        user: u32,
        group: Gid,
        groups: Vec<Gid>,
    }

    impl Lowered {
        /// To those of the user who could turn the folder elsewhere, by what is in its path. Nothing if that is only root, or this is not root.
        pub(in crate::store) fn to_owner_of(folder: &Path) -> io::Result<Option<Self>> {
            if !is_root() {
                return Ok(None);
            }
            let there = folder.ancestors().filter_map(|folder| fs::symlink_metadata(folder).ok());
            let Some(owner) = there.filter(|folder| folder.uid() != 0).last() else { return Ok(None) };
            let group = Gid::from_raw(owner.gid());
            let lowered = Self { user: owner.uid(), group: getegid(), groups: getgroups()? };
            set_thread_groups(&[group])?;
            set_thread_res_gid(None, group, None)?;
            set_thread_res_uid(None, Uid::from_raw(owner.uid()), None)?;
            Ok(Some(lowered))
        }

        /// An error, and with whose rights it came about.
        pub(in crate::store) fn said_of(lowered: Option<&Self>, error: io::Error) -> io::Error {
            match lowered {
                Some(Self { user, .. }) => io::Error::new(
                    error.kind(),
                    format!("{error} (with the rights of user {user}, to whom a folder above it belongs)"),
                ),
                None => error,
            }
        }
    }

    impl Drop for Lowered {
        /// Where one of these fails, the rights stay lower than they were.
        fn drop(&mut self) {
            let _ = set_thread_res_uid(None, Uid::ROOT, None);
            let _ = set_thread_res_gid(None, self.group, None);
            let _ = set_thread_groups(&self.groups);
        }
    }
}
