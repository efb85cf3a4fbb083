//! Who is signed in. Kept in memory: a new start of the page signs everybody out, and so does a new password.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::secrets;

/// A session ends after this long without a request, and after that long whatever happens.
const IDLE: Duration = Duration::from_secs(8 * 3600);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Sessions at once.
const MOST: usize = 1000;

struct Session {
    user: String,
    /// The hash that the password was compared with: another one ends the session.
    password_hash: String,
    began: Instant,
    seen: Instant,
}

#[derive(Default)]
pub(super) struct Sessions {
    known: Mutex<HashMap<String, Session>>,
}

impl Sessions {
    /// Signs `user` in; returns the new session's identity, which is never one that a browser brought along.
    ///
    /// # Errors
    ///
    /// When the kernel gives no random bytes.
    pub(super) fn begin(&self, user: &str, password_hash: &str) -> std::io::Result<String> {
        let id = secrets::identity()?;
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, session| !session.is_over(now));
        if known.len() >= MOST {
            let oldest = known.iter().min_by_key(|(_, session)| session.seen).map(|(id, _)| id.clone());
            oldest.and_then(|id| known.remove(&id));
        }
        let session =
            Session { user: user.to_owned(), password_hash: password_hash.to_owned(), began: now, seen: now };
        known.insert(id.clone(), session);
        Ok(id)
    }

    /// Whose session it is, if `hash_of` still gives the hash that they signed in with.
    pub(super) fn user(&self, id: &str, hash_of: impl Fn(&str) -> Option<String>) -> Option<String> {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let session = known.get_mut(id)?;
        if session.is_over(now) || hash_of(&session.user).as_ref() != Some(&session.password_hash) {
            known.remove(id);
            return None;
        }
        session.seen = now;
        Some(session.user.clone())
    }

    /// Signs out.
    pub(super) fn end(&self, id: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl Session {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.seen) > IDLE || now.duration_since(self.began) > LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_with_its_password_and_when_it_is_ended() {
        let sessions = Sessions::default();
        let id = sessions.begin("anna", "hash").unwrap();
        assert_eq!(sessions.user(&id, |_| Some("hash".to_owned())).as_deref(), Some("anna"));
        assert_eq!(sessions.user("other", |_| Some("hash".to_owned())), None);
        assert_eq!(sessions.user(&id, |_| Some("new".to_owned())), None);
        assert_eq!(sessions.user(&id, |_| Some("hash".to_owned())), None, "it is over for good");
        let id = sessions.begin("anna", "hash").unwrap();
        sessions.end(&id);
        assert_eq!(sessions.user(&id, |_| Some("hash".to_owned())), None);
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let sessions = Sessions::default();
        for _ in 0..MOST + 5 {
            sessions.begin("anna", "hash").unwrap();
        }
        assert_eq!(sessions.known.lock().unwrap().len(), MOST);
    }
}
