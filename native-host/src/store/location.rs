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

/// The deployment file that the settings name, else the one of this user.
pub(crate) fn config_path(get: impl Fn(&str) -> Option<String>) -> Result<PathBuf, StoreError> {
    let named = get("NODETOOL_CONFIG_PATH").map(|path| path.trim().to_owned()).filter(|path| !path.is_empty());
    named.map_or_else(deployment_path, |path| Ok(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::usual_path;
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
}
