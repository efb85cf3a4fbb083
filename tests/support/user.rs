//! Users of a database server who may do what the README grants them, or what a test says.

use url::Url;

use super::{Client, Sandbox, Server};

const README: &str = include_str!("../../README.md");

/// A user of the shared server with a password of its own; dropped with the value.
pub(crate) struct User {
    name: String,
    /// As which it connects to the sandbox's database.
    pub(crate) url: Url,
}

impl User {
    /// Grants are given as `INSERT ON duly_job`.
    pub(crate) fn new(s: &Sandbox, suffix: &str, grants: &[String]) -> User {
        let mut url = Url::parse(s.database().url()).expect("a URL");
        let database = url.path().trim_start_matches('/').to_owned();
        let name = format!("{database}_{suffix}");
        let mut admin = Server::shared().administrator();
        admin.sql(&format!("CREATE USER {name}@'%' IDENTIFIED BY 'geheim'"));
        for grant in grants {
            let grant = grant.replace(" ON ", &format!(" ON {database}."));
            admin.sql(&format!("GRANT {grant} TO {name}@'%'"));
        }
        url.set_username(&name).and_then(|()| url.set_password(Some("geheim"))).expect("a URL with a host");
        User { name, url }
    }

    /// With every grant that the README has for `user` on a table of Duly's, or on all tables.
    pub(crate) fn as_documented(s: &Sandbox, user: &str) -> User {
        let end = format!("TO '{user}'@'%';");
        let grants = README.lines().filter(|line| line.starts_with("GRANT ") && line.ends_with(&end));
        let grants: Vec<String> = grants
            .filter(|line| line.contains(" ON shop.duly_") || line.contains(" ON shop.*"))
            .map(|line| line["GRANT ".len()..line.len() - end.len()].trim().replace("ON shop.", "ON "))
            .collect();
        assert!(!grants.is_empty(), "the README grants nothing to {user}");
        User::new(s, user.trim_start_matches("shop_"), &grants)
    }

    /// Executes one statement as this user; gives what the server says against it.
    pub(crate) fn try_sql(&self, statement: &str) -> Result<(), String> {
        Client::connect(self.url.as_str())?.execute(statement)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if let Ok(mut admin) = Client::connect(Server::shared().admin().as_str()) {
            drop(admin.execute(&format!("DROP USER {}@'%'", self.name)));
        }
    }
}
