//! Who a request is from and what they may do, found out once for each.

use std::net::{IpAddr, SocketAddr};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};

use super::problem::Problem;
use super::secrets;
use super::site::Site;
use crate::config::{Config, Role, TrustedProxy};

/// The cookie that ties a browser to its session and its forms.
pub(super) const SESSION: &str = "duly_session";

/// The cookie with what came of the last form, shown once.
pub(super) const SAID: &str = "duly_said";

/// What a form's token is signed for.
const FORM: &str = "form";

/// What came of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) is_good: bool,
    pub(super) text: String,
}

/// One request, and who makes it.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    /// Who, if it is known.
    pub(super) who: Option<String>,
    /// What they may do; `None` until they have signed in.
    pub(super) role: Option<Role>,
    /// Whether nobody has to sign in here.
    pub(super) is_open: bool,
    /// Whether they could sign out.
    pub(super) has_session: bool,
    /// The value of the cookie, and whether the browser does not have it yet.
    pub(super) session: String,
    pub(super) is_new: bool,
    /// What each form of this browser carries.
    pub(super) token: String,
    /// Path and query.
    pub(super) path: String,
    /// Where the request comes from, as far as the proxy can be believed.
    pub(super) address: IpAddr,
    /// Whether it came over TLS, by the proxy's word.
    pub(super) is_secure: bool,
    /// What came of the last form.
    pub(super) said: Option<Said>,
}

impl Visit {
    pub(super) fn of(
        site: &Site,
        config: &Config,
        peer: SocketAddr,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let web = &config.web;
        let proxy =
            web.trusted_proxy.as_ref().filter(|proxy| proxy.from.iter().any(|from| from.has(peer.ip())));
        let address = proxy.and_then(|_| forwarded_for(headers)).unwrap_or(peer.ip()).to_canonical();
        let is_secure = proxy.is_some() && text(headers, "x-forwarded-proto") == Some("https");
        let brought =
            cookie(headers, SESSION).filter(|id| id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()));
        let is_new = brought.is_none();
        let session = match brought {
            Some(id) => id.to_owned(),
            None => secrets::identity().map_err(|err| Problem::broken(&err.to_string()))?,
        };
        let hash_of = |name: &str| {
            web.users.iter().find(|user| user.name == name).map(|user| user.password_hash.clone())
        };
        let signed_in = site.sessions.user(&session, hash_of);
        let role_of = |name: &str| web.users.iter().find(|user| user.name == name).map(|user| user.role);
        let is_open = !web.has_sign_in();
        let has_session = signed_in.is_some();
        let (who, role) = match (proxy.and_then(|proxy| named_by(proxy, headers)), signed_in) {
            (Some((who, role)), _) => (Some(who), Some(role)),
            (None, Some(who)) => {
                let role = role_of(&who);
                (Some(who), role)
            }
            (None, None) if is_open => (None, Some(by_nobody(site, peer, headers)?)),
            (None, None) => (None, None),
        };
        let token = site.key.sign(FORM, &session);
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let said = cookie(headers, SAID).and_then(|cookie| read_said(site, cookie));
        Ok(Self { who, role, is_open, has_session, session, is_new, token, path, address, is_secure, said })
    }

    /// Whether the person may change something.
    pub(super) fn may_change(&self) -> bool {
        self.role == Some(Role::Operator)
    }

    /// Who, for the trail.
    pub(super) fn name(&self) -> String {
        self.who.clone().unwrap_or_else(|| format!("somebody at {}", self.address))
    }

    /// Whether a form is from a page that this browser was given.
    pub(super) fn is_own_form(&self, site: &Site, token: Option<&str>) -> bool {
        !self.is_new && token.is_some_and(|token| site.key.is_signed(FORM, &self.session, token))
    }
}

/// Where nobody signs in, whoever is on this machine may do everything, and nobody else comes in.
fn by_nobody(site: &Site, peer: SocketAddr, headers: &HeaderMap) -> Result<Role, Problem> {
    let is_local = site.listen.ip().is_loopback() && peer.ip().to_canonical().is_loopback();
    let is_passed_on =
        ["x-forwarded-for", "forwarded", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name));
    if !is_local || is_passed_on {
        return Err(Problem::forbidden(
            "This page has no sign-in, so it answers only browsers on its own machine. To reach it through a proxy or from \
             elsewhere, configure web.users or web.trusted_proxy in jobs.yaml.",
        ));
    }
    Ok(Role::Operator)
}

/// Whom the proxy names.
fn named_by(proxy: &TrustedProxy, headers: &HeaderMap) -> Option<(String, Role)> {
    let mut values = headers.get_all(proxy.header.as_ref()?).iter();
    let name = values.next()?.to_str().ok()?.trim();
    // Two of them: one may be the browser's own.
    let is_name = values.next().is_none() && (1..=100).contains(&name.chars().count());
    let role =
        if proxy.operators.iter().any(|operator| operator == name) { Role::Operator } else { proxy.role };
    is_name.then(|| (name.to_owned(), role))
}

/// The last address of the list is the one that the proxy itself saw.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// What came of a form as a cookie's value, which nobody else can make.
pub(super) fn write_said(site: &Site, said: &Said) -> String {
    let short: String = said.text.chars().take(400).collect();
    let text = format!("{}{short}", if said.is_good { '+' } else { '-' });
    format!("{}.{}", secrets::hex(text.as_bytes()), site.key.sign("said", &text))
}

fn read_said(site: &Site, cookie: &str) -> Option<Said> {
    let (digits, signature) = cookie.split_once('.')?;
    let text = secrets::from_hex(digits)?;
    if !site.key.is_signed("said", &text, signature) {
        return None;
    }
    Some(Said { is_good: text.starts_with('+'), text: text.get(1..)?.to_owned() })
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::broken("a request without a visitor"))
    }
}
