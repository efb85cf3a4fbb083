//! A client that says exactly what a test wants said, and keeps cookies like a browser.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// Sends bytes to a server and reads what it answers until it closes.
pub(crate) fn raw(address: &str, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("connecting");
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    // A server that has heard enough may close before it has read all.
    stream.write_all(request).unwrap_or_default();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap_or_default();
    read(&bytes)
}

fn read(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.to_lowercase(), value.to_owned()));
    Answer { status, headers: headers.collect(), body: body.to_owned() }
}

/// Somebody with a browser without scripts.
pub(crate) struct Client {
    pub(crate) address: String,
    pub(crate) cookies: BTreeMap<String, String>,
    /// Headers of every request.
    pub(crate) headers: Vec<(String, String)>,
    /// The token of the last page that had one.
    pub(crate) token: String,
}

impl Client {
    pub(crate) fn new(address: &str) -> Client {
        Client {
            address: address.to_owned(),
            cookies: BTreeMap::new(),
            headers: Vec::new(),
            token: String::new(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Client {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    /// Sends a form of the page that was loaded last.
    pub(crate) fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", &self.token).extend_pairs(fields);
        let form = form.finish();
        self.send("POST", path, &form)
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !self.headers.iter().any(|(name, _)| name == "Host") {
            request.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        if method == "POST" {
            let length = body.len();
            request.push_str(&format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n"
            ));
        }
        let answer = raw(&self.address, format!("{request}\r\n{body}").as_bytes());
        for (name, value) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (cookie, rest) = value.split_once(';').unwrap_or((value, ""));
            let (key, text) = cookie.split_once('=').unwrap_or((name, ""));
            if rest.contains("Max-Age=0") {
                self.cookies.remove(key);
            } else {
                self.cookies.insert(key.to_owned(), text.to_owned());
            }
        }
        if let Some((_, rest)) = answer.body.split_once("name=\"token\" value=\"") {
            self.token = rest.chars().take_while(|c| *c != '"').collect();
        }
        answer
    }

    /// Signs in; the answer to that.
    pub(crate) fn sign_in(&mut self, name: &str, password: &str) -> Answer {
        self.get("/sign-in");
        self.post("/sign-in", &[("name", name), ("password", password)])
    }
}
