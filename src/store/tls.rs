//! Encryption on the way to a MySQL or MariaDB server: what `ssl_mode` of the URL asks for is met or refused.
//!
//! MariaDB's client library knows no `ssl_mode`, and diesel hands it over regardless, where it is lost without a
//! word. What that library does do: with `ssl_ca` it encrypts and verifies the server's chain. So `required` and
//! `verify_ca` become an `ssl_ca` there (the system's, where the URL names none), and whether the connection is
//! encrypted is asked of the server afterwards. It has no way to verify a host's name through diesel: that is refused.

use diesel::mysql::MysqlConnection;
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use url::Url;

use super::error::StoreError;
use super::text::AnyText as Text;

/// The certificates that the system trusts, on Debian and its like.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How to connect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The URL for diesel.
    pub(super) url: String,
    /// Whether a connection that is not encrypted must not be used.
    pub(super) must_be_encrypted: bool,
}

#[derive(QueryableByName)]
struct Status {
    #[diesel(sql_type = Text, column_name = "Value")]
    value: String,
}

/// Turns what the URL asks for into what the client library understands.
pub(super) fn prepare(url: &str) -> Result<Way, StoreError> {
    prepare_for(url, mysqlclient_sys::SUPPORTS_MYSQL_SSL_MODE)
}

fn prepare_for(url: &str, knows_mode: bool) -> Result<Way, StoreError> {
    let Ok(mut parsed) = Url::parse(url) else {
        return Ok(Way { url: url.to_owned(), must_be_encrypted: false });
    };
    let mode = parsed.query_pairs().find(|(key, _)| key == "ssl_mode").map(|(_, value)| value.to_lowercase());
    let must_be_encrypted = matches!(mode.as_deref(), Some("required" | "verify_ca" | "verify_identity"));
    if knows_mode || mode.is_none() {
        return Ok(Way { url: url.to_owned(), must_be_encrypted });
    }
    if mode.as_deref() == Some("verify_identity") {
        return Err(StoreError::Other(
            "ssl_mode=verify_identity is not possible with MariaDB's client library, which this Duly is built with; \
             use ssl_mode=verify_ca with an ssl_ca that signs this server only"
                .to_owned(),
        ));
    }
    let pairs: Vec<(String, String)> = parsed
        .query_pairs()
        .filter(|(key, _)| key != "ssl_mode")
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    let has_ca = pairs.iter().any(|(key, _)| key == "ssl_ca");
    parsed.set_query(None);
    for (key, value) in pairs {
        parsed.query_pairs_mut().append_pair(&key, &value);
    }
    if must_be_encrypted && !has_ca {
        parsed.query_pairs_mut().append_pair("ssl_ca", SYSTEM_CA);
    }
    Ok(Way { url: parsed.into(), must_be_encrypted })
}

/// Makes sure that the connection is encrypted.
pub(super) fn require(conn: &mut MysqlConnection) -> Result<(), StoreError> {
    let status: Result<Vec<Status>, _> = sql_query("SHOW SESSION STATUS LIKE 'Ssl_cipher'").load(conn);
    match status {
        Ok(rows) if rows.iter().any(|row| !row.value.is_empty()) => Ok(()),
        Ok(_) => Err(StoreError::Other(
            "the connection is not encrypted, and ssl_mode asks for it: the server offers no TLS".to_owned(),
        )),
        Err(err) => {
            Err(StoreError::Other(format!("cannot find out whether the connection is encrypted: {err}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(query: &str, knows_mode: bool) -> Way {
        prepare_for(&format!("mysql://u:p@db/shop{query}"), knows_mode).unwrap()
    }

    #[test]
    fn a_library_that_knows_modes_gets_the_url_as_it_is() {
        let url = "mysql://u:p@db/shop?ssl_mode=verify_identity";
        assert_eq!(way("?ssl_mode=verify_identity", true), Way { url: url.into(), must_be_encrypted: true });
    }

    #[test]
    fn what_a_library_without_modes_cannot_be_told_is_done_another_way_or_refused() {
        let system = format!("mysql://u:p@db/shop?ssl_ca={}", SYSTEM_CA.replace('/', "%2F"));
        assert_eq!(way("?ssl_mode=REQUIRED", false), Way { url: system, must_be_encrypted: true });
        let own = "mysql://u:p@db/shop?ssl_ca=%2Fown.pem";
        assert_eq!(
            way("?ssl_mode=verify_ca&ssl_ca=/own.pem", false),
            Way { url: own.into(), must_be_encrypted: true }
        );
        assert_eq!(
            way("?ssl_mode=preferred", false),
            Way { url: "mysql://u:p@db/shop".into(), must_be_encrypted: false }
        );
        let refused = prepare_for("mysql://u:p@db/shop?ssl_mode=verify_identity", false).unwrap_err();
        assert!(refused.to_string().contains("verify_ca"));
    }
}
