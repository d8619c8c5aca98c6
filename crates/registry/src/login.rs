//! Logins to registries, from the files that `podman login` and `docker login` write
//! (containers/image, `containers-auth.json.5`).
//!
//! Helpers that other programs keep passwords with are not asked: they are programs, and what is
//! started for a stranger's registry should be none.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use portcullis_settings::trusted::{self, TrustError};
use serde::Deserialize;

/// Most bytes of such a file.
const MAX_FILE: u64 = 1 << 20;

/// Why a login cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// Its file is not to be trusted, or cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It is no such file.
    #[error("{} is no file of logins: podman login --authfile FILE HOST writes one", .0.display())]
    Json(PathBuf, #[source] serde_json::Error),
    /// The login of a host is none.
    #[error("{} has no proper login for it: podman login --authfile FILE HOST writes one", .0.display())]
    Malformed(PathBuf),
    /// Another program has it.
    #[error(
        "{} leaves it to the helper {helper}, and helpers are not asked: \
         podman login --authfile FILE HOST, and name the FILE as [registry] authFile",
        file.display()
    )]
    Helper {
        /// The file that says so.
        file: PathBuf,
        /// Which program.
        helper: String,
    },
    /// A token for another way to log in.
    #[error("{} has an identity token for it, which is not supported: log in with a password", .0.display())]
    Token(PathBuf),
}

/// Where logins stand: the first file that has one counts.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    files: Vec<PathBuf>,
    /// Whether the first must be there and be secret.
    is_named: bool,
}

/// Who we are to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    user: String,
    password: String,
}

impl Login {
    /// As the header `Authorization` has it (RFC 7617).
    pub(crate) fn header(&self) -> String {
        let Self { user, password } = self;
        format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    auths: BTreeMap<String, RawLogin>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawLogin {
    auth: String,
    identitytoken: String,
}

impl Logins {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// Those of one file.
    pub fn of_file(file: &Path) -> Self {
        Self { files: vec![file.to_owned()], is_named: true }
    }

    /// Those of whoever runs this: of `REGISTRY_AUTH_FILE`, or of the files that Podman and Docker
    /// write. `variable` is the environment.
    pub fn of_user(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let folder = |name: &str| variable(name).filter(|v| v.starts_with('/')).map(PathBuf::from);
        if let Some(file) = variable("REGISTRY_AUTH_FILE").filter(|file| !file.is_empty()) {
            return Self::of_file(Path::new(&file));
        }
        let runtime = folder("XDG_RUNTIME_DIR").map(|f| f.join("containers/auth.json"));
        let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let docker = folder("DOCKER_CONFIG").or_else(|| Some(folder("HOME")?.join(".docker")));
        let of_root = is_root().then(|| PathBuf::from("/run/containers/0/auth.json"));
        let files = [
            runtime.or(of_root),
            config.map(|folder| folder.join("containers/auth.json")),
            docker.map(|folder| folder.join("config.json")),
        ];
        Self { files: files.into_iter().flatten().collect(), is_named: false }
    }

    /// Who we are to a repository; `None` if nothing says so.
    ///
    /// # Errors
    /// [`LoginError`]: something does, and it cannot be used.
    pub(crate) fn of(&self, host: &str, path: &str) -> Result<Option<Login>, LoginError> {
        for file in &self.files {
            let bytes = match self.is_named {
                true => trusted::read_secret(file, MAX_FILE),
                false => trusted::read(file, MAX_FILE),
            };
            let bytes = match bytes {
                Err(TrustError::Missing { .. }) if !self.is_named => continue,
                other => other?,
            };
            let raw: Raw = serde_json::from_slice(&bytes)
                .map_err(|error| LoginError::Json(file.clone(), error))?;
            if let Some(login) = raw.of(file, host, path)? {
                return Ok(Some(login));
            }
        }
        Ok(None)
    }
}

impl Raw {
    /// The login of the narrowest name that contains the repository.
    fn of(&self, file: &Path, host: &str, path: &str) -> Result<Option<Login>, LoginError> {
        let mut name = format!("{host}/{path}");
        let mut names = vec![name.clone()];
        while let Some(at) = name.rfind('/') {
            name.truncate(at);
            names.push(name.clone());
        }
        // Docker writes addresses, and of its own registry an old one.
        names.extend([format!("https://{host}"), format!("https://{host}/")]);
        names.extend([format!("https://{host}/v1/"), format!("https://{host}/v2/")]);
        if host == "docker.io" {
            names.extend(["https://index.docker.io/v1/".to_owned(), "index.docker.io".to_owned()]);
        }
        let malformed = || LoginError::Malformed(file.to_owned());
        for name in &names {
            let Some(login) = self.auths.get(name) else { continue };
            if !login.identitytoken.is_empty() {
                return Err(LoginError::Token(file.to_owned()));
            }
            // A helper leaves an empty one.
            if login.auth.is_empty() {
                continue;
            }
            let text = BASE64_STANDARD.decode(login.auth.trim()).map_err(|_| malformed())?;
            let text = String::from_utf8(text).map_err(|_| malformed())?;
            let (user, password) = text.split_once(':').ok_or_else(malformed)?;
            let password = password.trim_end_matches('\0');
            return Ok(Some(Login { user: user.to_owned(), password: password.to_owned() }));
        }
        let is_of_store = names.iter().any(|name| self.auths.contains_key(name));
        let helper = names.iter().find_map(|name| self.cred_helpers.get(name));
        let helper =
            helper.or((is_of_store && !self.creds_store.is_empty()).then_some(&self.creds_store));
        match helper {
            Some(helper) => Err(LoginError::Helper {
                file: file.to_owned(),
                helper: crate::error::shown(helper),
            }),
            None => Ok(None),
        }
    }
}

/// Whether root runs this.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn of(text: &str, host: &str, path: &str) -> Result<Option<Login>, LoginError> {
        let raw: Raw = serde_json::from_str(text).unwrap();
        raw.of(Path::new("/auth.json"), host, path)
    }

    fn login(user: &str, password: &str) -> Option<Login> {
        Some(Login { user: user.to_owned(), password: password.to_owned() })
    }

    #[test]
    fn the_narrowest_name_counts_and_others_do_not() {
        let auth = |text: &str| BASE64_STANDARD.encode(text);
        let text = format!(
            r#"{{"auths": {{"a.example": {{"auth": "{}"}}, "a.example/team": {{"auth": "{}"}},
                "https://index.docker.io/v1/": {{"auth": "{}"}}, "b.example:5000": {{}}}}}}"#,
            auth("all:p:q"),
            auth("team:p"),
            auth("hub:p")
        );
        assert_eq!(of(&text, "a.example", "web").unwrap(), login("all", "p:q"));
        assert_eq!(of(&text, "a.example", "team/web").unwrap(), login("team", "p"));
        assert_eq!(of(&text, "a.example", "teams/web").unwrap(), login("all", "p:q"));
        assert_eq!(of(&text, "docker.io", "library/web").unwrap(), login("hub", "p"));
        for host in ["a.example:5000", "b.example:5000", "evil-a.example", "c.example"] {
            assert_eq!(of(&text, host, "team/web").unwrap(), None, "{host}");
        }
        assert_eq!(format!("{:?}", login("u", "secret")), "Some(Login(u))");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (text, wanted) in [
            (r#"{"auths": {"a": {"auth": "*"}}}"#, "no proper login"),
            (r#"{"auths": {"a": {"auth": "dQ=="}}}"#, "no proper login"),
            (r#"{"auths": {"a": {"identitytoken": "x"}}}"#, "identity token"),
            (r#"{"credHelpers": {"a": "ecr-login"}}"#, "the helper ecr-login"),
            (r#"{"auths": {"a": {}}, "credsStore": "desktop"}"#, "the helper desktop"),
        ] {
            let error = of(text, "a", "web").unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        assert_eq!(of(r#"{"credsStore": "desktop"}"#, "a", "web").unwrap(), None);
    }

    #[test]
    fn files_are_looked_for_where_podman_and_docker_have_them() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().display().to_string();
        let variable = |name: &str| match name {
            "HOME" | "XDG_RUNTIME_DIR" => Some(own.clone()),
            _ => None,
        };
        let logins = Logins::of_user(&variable);
        assert_eq!(logins.of("a.example", "web").unwrap(), None);
        let write = |name: &str, user: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let auth = BASE64_STANDARD.encode(format!("{user}:p"));
            let text = format!(r#"{{"auths": {{"a.example": {{"auth": "{auth}"}}}}}}"#);
            std::fs::write(&path, text).unwrap();
            path
        };
        write(".docker/config.json", "docker");
        assert_eq!(logins.of("a.example", "web").unwrap(), login("docker", "p"));
        write("containers/auth.json", "podman");
        assert_eq!(logins.of("a.example", "web").unwrap(), login("podman", "p"));
        let named = write("named.json", "named");
        std::fs::set_permissions(&named, PermissionsExt::from_mode(0o644)).unwrap();
        let variable =
            |name: &str| (name == "REGISTRY_AUTH_FILE").then(|| named.display().to_string());
        let logins = Logins::of_user(&variable);
        let error = logins.of("a.example", "web").unwrap_err().to_string();
        assert!(error.contains("chmod go-rwx"), "{error}");
        std::fs::set_permissions(&named, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(logins.of("a.example", "web").unwrap(), login("named", "p"));
        std::fs::remove_file(&named).unwrap();
        assert!(matches!(
            logins.of("a.example", "web"),
            Err(LoginError::Trust(TrustError::Missing { .. }))
        ));
    }
}
