//! Programs on this host: where one is, and whether the kernel could execute it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes of a script in which the kernel looks for its interpreter.
const HEAD: u64 = 256;

/// Where a program is, looked for in the folders of `path` as a shell does.
#[must_use]
pub fn find_in(path: &str, name: &str) -> Option<PathBuf> {
    found_in(path.as_ref(), Path::new("/"), name)
}

/// The absolute path of the program `name`, found as a shell finds it in `path`, from the folder `cwd`.
///
/// # Errors
///
/// Why it cannot be used.
pub(super) fn find(name: &str, path: &OsStr, cwd: &Path) -> Result<PathBuf, String> {
    let found = if name.contains('/') {
        let program = cwd.join(name.strip_prefix("./").unwrap_or(name));
        usable(&program).map_err(|why| format!("its program `{}` {why}", program.display()))?;
        program
    } else {
        found_in(path, cwd, name).ok_or_else(|| {
            format!(
                "there is no program `{name}` in its PATH ({}); name it with its folder",
                path.to_string_lossy()
            )
        })?
    };
    has_interpreter(&found, path, cwd).map_err(|why| format!("its program `{}` {why}", found.display()))?;
    Ok(found)
}

/// Of this process, which is the one of the command if that is given no other.
pub(super) fn own_path() -> Option<OsString> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a command inherits PATH, and is looked up in what it inherits"
    )]
    std::env::var_os("PATH")
}

fn found_in(path: &OsStr, cwd: &Path, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| cwd.join(folder).join(name))
        .find(|candidate| usable(candidate).is_ok())
}

fn usable(path: &Path) -> Result<(), String> {
    match path.metadata() {
        Ok(found) if found.is_dir() => Err("is a folder".to_owned()),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Err("is not executable; `chmod +x` makes it so".to_owned())
        }
        Ok(_) => Ok(()),
        Err(err) if err.kind() == ErrorKind::NotFound => Err("does not exist".to_owned()),
        Err(err) => Err(format!("cannot be used: {err}")),
    }
}

/// Whether what a script names in its first line is there: the kernel says of the script that it is not, and `env` tells nobody
/// but the output.
fn has_interpreter(program: &Path, path: &OsStr, cwd: &Path) -> Result<(), String> {
    let mut head = Vec::new();
    // What may be executed need not be readable.
    let read = File::open(program).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    let Some(line) = read.ok().and_then(|_| head.strip_prefix(b"#!")) else { return Ok(()) };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.ends_with(b"\r") {
        return Err("has the line ends of Windows, so its interpreter is not found; `dos2unix` or \
                    `sed -i 's/\\r$//'` mends it"
            .to_owned());
    }
    let mut words =
        line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(OsStr::from_bytes);
    let Some(interpreter) = words.next() else { return Ok(()) };
    usable(&cwd.join(interpreter))
        .map_err(|why| format!("is a script whose interpreter `{}` {why}", interpreter.to_string_lossy()))?;
    let is_env = Path::new(interpreter).file_name() == Some(OsStr::new("env"));
    let named = words.find(|word| *word != "-S").and_then(OsStr::to_str).filter(|_| is_env);
    match named {
        Some(name) if !name.contains(['=', '/']) && !name.starts_with('-') => {
            found_in(path, cwd, name).map(drop).ok_or_else(|| {
                format!(
                    "is a script whose interpreter `{name}` is not in its PATH ({})",
                    path.to_string_lossy()
                )
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_needs_what_its_first_line_names() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("script");
        for (head, said) in [
            ("#!/bin/sh\n", None),
            ("#! /bin/sh -e\n", None),
            ("#!/usr/bin/env sh\n", None),
            ("#!/usr/bin/env -S sh -e\n", None),
            ("#!/usr/bin/env -i sh\n", None),
            ("#!/usr/bin/env A=b no-such-program\n", None),
            ("#!\n", None),
            ("\u{7f}ELF", None),
            ("", None),
            ("#!/bin/sh\r\n", Some("line ends of Windows")),
            ("#!/usr/bin/env sh\r\n", Some("line ends of Windows")),
            ("#!/no/such/shell\n", Some("interpreter `/no/such/shell` does not exist")),
            ("#!/no/such/shell", Some("interpreter `/no/such/shell` does not exist")),
            (
                "#!/usr/bin/env no-such-program\n",
                Some("interpreter `no-such-program` is not in its PATH (/usr/bin:/bin)"),
            ),
        ] {
            std::fs::write(&program, head).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let found = find("./script", "/usr/bin:/bin".as_ref(), folder.path());
            match said {
                None => assert_eq!(found.as_ref(), Ok(&program), "{head:?}"),
                Some(said) => {
                    assert!(found.as_ref().is_err_and(|why| why.contains(said)), "{head:?}: {found:?}");
                }
            }
        }
    }
}
