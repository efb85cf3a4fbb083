//! What a database URL may be, and that no password is ever shown.

use std::path::Path;

use proptest::prelude::*;

use crate::config::DatabaseUrl;

fn parse(text: &str) -> Result<DatabaseUrl, String> {
    DatabaseUrl::parse(text, Path::new("/nonexistent/shop"))
}

fn exposed(text: &str) -> String {
    parse(text).unwrap().expose().to_owned()
}

#[test]
fn every_form_of_a_database_is_read() {
    for (text, expected) in [
        ("mysql://u:p@h:3307/shop", "mysql://u:p@h:3307/shop"),
        (" mariadb://u@h/shop\n", "mysql://u@h/shop"),
        ("MySQL://u@h/shop?ssl_mode=VERIFY_CA&ssl_ca=/a", "mysql://u@h/shop?ssl_mode=VERIFY_CA&ssl_ca=/a"),
        ("mysql://localhost/shop?unix_socket=/run/m.sock", "mysql://localhost/shop?unix_socket=/run/m.sock"),
        ("sqlite:///var/jobs.db", "/var/jobs.db"),
        ("sqlite://rel/jobs", "/nonexistent/shop/rel/jobs"),
        ("sqlite:./jobs", "/nonexistent/shop/jobs"),
        ("jobs.sqlite", "/nonexistent/shop/jobs.sqlite"),
        ("/x/jobs.db", "/x/jobs.db"),
    ] {
        assert_eq!(exposed(text), expected, "{text}");
    }
}

#[test]
fn several_hosts_are_one_database_in_whatever_order() {
    let url = parse("mysql://u:p@db1,db2:3307,[::1]:3308/shop?ssl_mode=required").unwrap();
    assert_eq!(url.expose(), "mysql://u:p@db1,db2:3307,[::1]:3308/shop?ssl_mode=required");
    assert_eq!(url.to_string(), "mysql://u@db1,db2:3307,[::1]:3308/shop");
    let hosts: Vec<_> = url.hosts().collect();
    assert_eq!(hosts, [("db1", None), ("db2", Some(3307)), ("[::1]", Some(3308))]);
    let identity = |text| parse(text).unwrap().identity();
    assert_eq!(identity("mysql://u@B,a:1/x"), identity("mysql://v@a:1,b:3306/x"));
    for (bad, expected) in [
        ("mysql://u:secret@h,/db", "host 2 of the list is empty"),
        ("mysql://u:secret@,h/db", "not a valid URL"),
        ("mysql://u:secret@h,h:x/db", "host 2 of the list is not valid"),
        ("mysql://u:secret@h,h", "names no database"),
    ] {
        let message = parse(bad).unwrap_err();
        assert!(message.contains(expected) && !message.contains("secret"), "{bad}: {message}");
    }
}

#[test]
fn an_unescaped_at_sign_in_a_password_belongs_to_it() {
    let url = parse("mysql://u:p@ss@h/shop").unwrap();
    assert_eq!(url.expose(), "mysql://u:p%40ss@h/shop");
    assert_eq!(url.to_string(), "mysql://u@h/shop");
}

#[test]
fn what_names_no_database_is_refused() {
    for (bad, expected) in [
        ("", "is empty"),
        ("postgres://u:secret@h/db", "not a database that Duly knows"),
        ("u:secret@h/x.db", "not a database that Duly knows"),
        ("mysql://u:secret@h", "names no database"),
        ("mysql://u:secret@/db", "not a valid URL"),
        ("mysql:///db", "names no host"),
        ("mysql://u:secret@h/a/b", "does not belong there"),
        ("mysql://u:secret@h/d%20b", "may only hold"),
        ("mysql://u:secret@h/db?sslmode=secret", "did you mean `ssl_mode`?"),
        ("mysql://u:secret@h/db?secret=x", "option 1 after the `?` is unknown; expected one of unix_socket"),
        ("mysql://u:secret@h/db?ssl_mode=secret", "expected one of disabled, preferred"),
        ("mysql://u:secret@h/db?ssl_ca=", "ssl_ca has no usable value"),
        ("mysql://u:secret@h/db?ssl_mode=disabled&ssl_mode=required", "ssl_mode is given twice"),
        ("mysql://u:secret%00@h/db", "NUL"),
        ("mysql://u:secret@h:99999/db", "invalid port"),
        ("mysql://u:secret\n@h/db", "control character"),
        ("sqlite::memory:", "in memory"),
        ("sqlite:", "names no SQLite file"),
        ("sqlite://x.db?secret=1", "no options"),
    ] {
        let message = parse(bad).unwrap_err();
        assert!(message.contains(expected), "{bad}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
}

#[test]
fn a_password_is_not_shown_even_if_its_characters_tear_the_url_apart() {
    for password in
        ["12/secret", "12?secret", "12#secret", "12?secret=1&b", "12/secret?x", "sec:ret/x", "12/x?secret=1"]
    {
        let found = parse(&format!("mysql://shop:{password}@host/db"));
        let shown = format!("{found:?} {}", found.as_ref().map(DatabaseUrl::identity).unwrap_or_default());
        assert!(!shown.contains("secret") && !shown.contains("sec:ret"), "{password}: {shown}");
    }
}

#[test]
fn the_identity_has_neither_user_nor_password_and_always_a_port() {
    let identity = |text| parse(text).unwrap().identity();
    assert_eq!(identity("mysql://u:secret@Host/shop"), "mysql://host:3306/shop");
    assert_eq!(identity("mysql://v@host:3306/shop?ssl_mode=required"), "mysql://host:3306/shop");
    assert_eq!(identity("mysql://u@localhost/shop?unix_socket=/s"), "mysql://localhost/shop?unix_socket=/s");
    assert_eq!(identity("sqlite:jobs.db"), "/nonexistent/shop/jobs.db");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "(mysql://|sqlite:|)[ -~é]{0,30}") {
        if let Ok(url) = parse(&text) {
            prop_assert!(!url.expose().is_empty() && !url.identity().is_empty());
        }
    }

    #[test]
    fn no_password_is_ever_shown(
        before in "[a-z0-9/?#:@%&=]{0,6}", after in "[a-z0-9/?#:@%&=]{0,6}", rest in "[/?a-z0-9=&_]{0,12}",
    ) {
        let found = parse(&format!("mysql://shop:{before}SeCrEt{after}@host{rest}"));
        let shown = format!("{found:?} {}", found.as_ref().map(ToString::to_string).unwrap_or_default());
        prop_assert!(!shown.to_lowercase().contains("secret"), "{}", shown);
        if let Ok(url) = found {
            prop_assert!(!url.identity().to_lowercase().contains("secret"));
        }
    }
}
