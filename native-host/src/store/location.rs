//! Where the deployment file is.

use std::{env, path::PathBuf};

use super::StoreError;

/// The deployment file of this user, unless `NODETOOL_CONFIG_PATH` names another.
///
/// # Errors
/// When the user has no home folder.
pub fn deployment_path() -> Result<PathBuf, StoreError> {
    usual_path(cfg!(windows), env::var_os("APPDATA").map(PathBuf::from), env::home_dir()).ok_or(StoreError::NoHome)
}

fn usual_path(is_windows: bool, app_data: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let is_there = |folder: &PathBuf| !folder.as_os_str().is_empty();
    let folder = if is_windows { app_data.filter(is_there)? } else { home.filter(is_there)?.join(".config") };
    Some(folder.join("nodetool").join("deployment.yaml"))
}

/// Where newer NodeTool keeps the file, on Windows too.
#[cfg(feature = "cli")]
pub(crate) fn path_of_nodetool() -> Option<PathBuf> {
    usual_path(false, None, env::home_dir())
}

/// The deployment file that the settings name, else the one of this user.
pub(crate) fn config_path(get: impl Fn(&str) -> Option<String>) -> Result<PathBuf, StoreError> {
    let named = get("NODETOOL_CONFIG_PATH").map(|path| path.trim().to_owned()).filter(|path| !path.is_empty());
    named.map_or_else(deployment_path, |path| expanded(&path, env::home_dir()).ok_or(StoreError::NoHome))
}

/// A leading `~/` is the home folder, since no shell reads the files of systemd or Docker in which it may stand.
fn expanded(path: &str, home: Option<PathBuf>) -> Option<PathBuf> {
    match path.strip_prefix("~/") {
        Some(below) => Some(home.filter(|home| !home.as_os_str().is_empty())?.join(below)),
        None => Some(PathBuf::from(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::{expanded, usual_path};
    use std::path::PathBuf;

    #[test]
    fn the_usual_path_of_each_system() {
        let app_data = PathBuf::from(r"C:\Users\me\AppData\Roaming");
        let (home, none) = (PathBuf::from("/home/me"), PathBuf::new());
        let of_unix = home.join(".config/nodetool/deployment.yaml");
        assert_eq!(usual_path(false, Some(app_data.clone()), Some(home.clone())), Some(of_unix));
        let of_windows = app_data.join("nodetool").join("deployment.yaml");
        assert_eq!(usual_path(true, Some(app_data.clone()), Some(home.clone())), Some(of_windows));
        for missing in [None, Some(none)] {
            assert_eq!(usual_path(false, Some(app_data.clone()), missing.clone()), None);
            assert_eq!(usual_path(true, missing, Some(home.clone())), None);
        }
    }

    #[test]
    fn the_home_folder_where_no_shell_has_read_the_path() {
        let home = || Some(PathBuf::from("/home/me"));
        for (path, expected) in [
            ("~/gateway/token.yaml", Some("/home/me/gateway/token.yaml")),
            ("/etc/~/token.yaml", Some("/etc/~/token.yaml")),
            ("~other/token.yaml", Some("~other/token.yaml")),
            ("token.yaml", Some("token.yaml")),
        ] {
            assert_eq!(expanded(path, home()), expected.map(PathBuf::from), "{path}");
        }
        assert_eq!(expanded("~/token.yaml", None), None);
        assert_eq!(expanded("~/token.yaml", Some(PathBuf::new())), None);
    }
}
