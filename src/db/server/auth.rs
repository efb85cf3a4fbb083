//! Signing in: the password leaves as the answer to a challenge, or to a server that has proved who it is, or not at all.
//!
//! `caching_sha2_password` answers a challenge while the server remembers the user; otherwise the server wants the password
//! itself. It gets it through TLS whose certificate was verified, through a socket in a folder that only its owner can write
//! to, or encrypted with the key of `server_public_key`. Nobody is asked for a key: whoever answers may be anybody.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use mysql_common::auth::plugins::{AuthProc, ChallengeResponsePlugin, Context};
use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakeResponse};

use super::super::error::Error;
use super::super::location::{Endpoint, Server};
use super::greeting::{CHALLENGE, Greeting};
use super::{Client, PACKET_SIZE, unexpected};

/// What a server may ask, one after the other, before it says yes or no.
const QUESTIONS: usize = 8;
/// Links on the way to a socket.
const LINKS: usize = 20;
/// `caching_sha2_password`: the server does not remember the user.
const FULL: &[u8] = &[4];

/// What a plug-in may know.
struct Known<'a> {
    password: &'a [u8],
    challenge: &'a [u8],
    is_proved: bool,
    key: Option<&'a [u8]>,
}

impl Context for &Known<'_> {
    fn pass(&self) -> &[u8] {
        self.password
    }
    fn is_ipc_transport(&self) -> bool {
        self.is_proved
    }
    fn is_tls_transport(&self) -> bool {
        self.is_proved
    }
    fn scramble(&self) -> &[u8] {
        self.challenge
    }
    fn server_key_pem(&self) -> Option<&[u8]> {
        self.key
    }
}

/// Answers what the server asks until it says yes.
pub(super) fn sign_in(
    client: &mut Client,
    server: &Server,
    endpoint: &Endpoint,
    greeting: &Greeting,
    flags: CapabilityFlags,
) -> Result<(), Error> {
    let key = server.public_key.as_deref().map(read_key).transpose()?;
    let is_proved = client.stream()?.is_verified()
        || matches!(endpoint, Endpoint::Socket(path) if is_in_a_folder_of_its_own(path));
    let mut challenge = greeting.challenge.clone();
    let mut plugin = match AuthPlugin::from_bytes(&greeting.plugin) {
        AuthPlugin::CachingSha2Password => AuthPlugin::CachingSha2Password,
        _ => AuthPlugin::MysqlNativePassword,
    };
    let mut steps = procedure(&plugin)?;
    let answer = |steps: &mut AuthProc, challenge: &[u8], said: &[u8]| {
        let known = Known { password: server.password.as_bytes(), challenge, is_proved, key: key.as_deref() };
        let response =
            steps.run(&known, said).map_err(|err| unexpected(&format!("while signing in: {err}")))?;
        Ok::<_, Error>(response.data().map(<[u8]>::to_vec))
    };
    let first = answer(&mut steps, &challenge, &challenge)?;
    client.send_packet(&HandshakeResponse::new(
        first,
        (8, 0, 0),
        Some(server.user.as_bytes()),
        Some(server.database.as_bytes()),
        Some(plugin.clone()),
        flags,
        Some([("program_name".to_owned(), "duly".to_owned())].into()),
        PACKET_SIZE,
    ))?;
    for _ in 0..QUESTIONS {
        let packet = client.receive()?;
        let sent = match packet[0] {
            0 => return Ok(()),
            0xfe => {
                let switch: AuthSwitchRequest<'_> =
                    ParseBuf(&packet).parse(()).map_err(|_old| refused(b"mysql_old_password"))?;
                plugin = switch.auth_plugin().into_owned();
                challenge = challenge_of(switch.plugin_data()).to_vec();
                steps = procedure(&plugin)?;
                answer(&mut steps, &challenge, &challenge)?.or(Some(Vec::new()))
            }
            1 if packet[1..] == *FULL && !is_proved && key.is_none() => return Err(unproved()),
            1 => answer(&mut steps, &challenge, &packet[1..])?,
            other => return Err(unexpected(&format!("while signing in: a packet of kind {other}"))),
        };
        if let Some(sent) = sent {
            client.send(&sent)?;
        }
    }
    Err(unexpected("while signing in: no end of questions"))
}

/// What a server sends along with a plug-in's name, without the zero at its end, which only plug-ins with text have.
fn challenge_of(data: &[u8]) -> &[u8] {
    match data {
        [challenge @ .., 0] if challenge.len() == CHALLENGE => challenge,
        whole => whole,
    }
}

/// The steps of a plug-in that never sends the password itself to somebody unproved.
fn procedure(plugin: &AuthPlugin<'_>) -> Result<AuthProc, Error> {
    match plugin {
        AuthPlugin::MysqlNativePassword | AuthPlugin::CachingSha2Password | AuthPlugin::Ed25519 => {
            AuthProc::init(plugin).map_err(|err| unexpected(&err.to_string()))
        }
        other => Err(refused(other.as_bytes())),
    }
}

fn refused(plugin: &[u8]) -> Error {
    let name = crate::job::escape(&plugin[..plugin.len().min(64)]);
    let why = match plugin {
        b"mysql_clear_password" | b"dialog" | b"sha256_password" => {
            "sends the password as it is, which Duly never does"
        }
        _ => "is none that Duly has",
    };
    Error::Away(format!(
        "the server asks to sign in by the plug-in `{name}`, which {why}; give the user mysql_native_password, \
         caching_sha2_password, ed25519 or unix_socket"
    ))
}

fn unproved() -> Error {
    Error::Away(
        "the server does not remember the user and wants the password itself (caching_sha2_password), but nothing proves which \
         server it is, so it gets none. Use ssl_mode=verify_ca with the server's ssl_ca, or server_public_key=FILE with its \
         public_key.pem, or its Unix socket"
            .to_owned(),
    )
}

/// Whether nobody could have put the socket there but who owns its folder, root, and this user. All folders on the way to it, also
/// by links, belong to the latter two, and nobody else can write in them; sticky ones will not do, since a new name is enough.
fn is_in_a_folder_of_its_own(socket: &Path) -> bool {
    let ours = [0, rustix::process::geteuid().as_raw()];
    let is_safe = |folder: &Path, may_be_anybodys: bool| {
        fs::symlink_metadata(folder).is_ok_and(|found| {
            found.is_dir() && found.mode() & 0o022 == 0 && (may_be_anybodys || ours.contains(&found.uid()))
        })
    };
    let mut rest: Vec<_> = components(socket);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = rest.pop() {
        if !is_safe(&at, rest.is_empty()) {
            return false;
        }
        match fs::read_link(at.join(&name)) {
            Ok(target) => {
                links += 1;
                // A link leads on from the folder that it is in, which whoever may write in it has made.
                if links > LINKS || !is_safe(&at, false) {
                    return false;
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest.extend(components(&target));
            }
            Err(_no_link) if name == ".." => drop(at.pop()),
            Err(_no_link) => at.push(name),
        }
    }
    socket.is_absolute()
}

/// The names in a path, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.map(|part| part.as_os_str().to_owned()).rev().collect()
}

fn read_key(path: &Path) -> Result<Vec<u8>, Error> {
    let cannot =
        |err: io::Error| Error::Other(format!("cannot read server_public_key `{}`: {err}", path.display()));
    let key = fs::read(path).map_err(cannot)?;
    match mysql_common::crypto::rsa::PublicKey::from_pem(&key) {
        Ok(_) => Ok(key),
        Err(_no_key) => Err(Error::Other(format!(
            "server_public_key `{}` holds no RSA key in PEM; expected the server's public_key.pem",
            path.display()
        ))),
    }
}
