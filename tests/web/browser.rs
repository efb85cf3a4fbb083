//! A real Chromium without a screen, driven by WebDriver.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::SOON;
use crate::support::wait_until;

/// What the guardian does, with the folder `$1`: it starts the driver; when the pipe closes, which only this process holds, it
/// ends the driver and the browser, which would outlive a driver that is killed.
const GUARDIAN: &str = r#"
HOME=$1 TMPDIR=$1 chromedriver --port=0 >"$1/driver" 2>&1 &
read -r _
kill -s KILL $!
while
    lives=
    for process in /proc/[0-9]*
    do
        ! grep -qsF -- "--user-data-dir=$1/profile" "$process/cmdline" || { lives=1; kill -s KILL "${process#/proc/}"; }
    done
    [ -n "$lives" ]
do
    sleep 0.05
done
rm -rf "$1"
"#;

/// A browser with one window. It ends with the value, or with the tests.
pub(crate) struct Browser {
    guardian: Child,
    port: u16,
    session: String,
    _folder: TempDir,
}

impl Browser {
    #[track_caller]
    pub(crate) fn start() -> Browser {
        let folder = tempfile::tempdir().expect("a folder");
        let said = folder.path().join("driver");
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starting sh");
        let mut port = 0;
        // `make test` installs it, or `apt-get install chromium chromium-driver`.
        wait_until("chromedriver listens", SOON, || {
            let text = std::fs::read_to_string(&said).unwrap_or_default();
            port = text
                .split("on port ")
                .last()
                .and_then(|rest| rest.split(['.', '\n']).next()?.parse().ok())
                .unwrap_or(0);
            text.contains("successfully") && port != 0
        });
        let mut browser = Browser { guardian, port, session: String::new(), _folder: folder };
        let profile = format!("--user-data-dir={}", browser._folder.path().join("profile").display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1280,900",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let made = browser.call("POST", "/session", &wanted);
        browser.session =
            made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}")).to_owned();
        browser
    }

    /// One call; what the driver answers.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connecting to chromedriver");
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        // It keeps the connection open, so what is read is as long as it says.
        let mut answer = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        while answer.read_line(&mut line).expect("reading from chromedriver") > 2 {
            if let Some(found) = line.to_lowercase().strip_prefix("content-length:") {
                length = found.trim().parse().expect("a length");
            }
            line.clear();
        }
        let mut bytes = vec![0; length];
        answer.read_exact(&mut bytes).expect("reading from chromedriver");
        let text = String::from_utf8_lossy(&bytes);
        let json = text.as_ref();
        let value: Value = serde_json::from_str(json).unwrap_or_else(|err| panic!("{err}: {text}"));
        value["value"].clone()
    }

    #[track_caller]
    fn within(&self, path: &str, body: &Value) -> Value {
        let value = self.call("POST", &format!("/session/{}{path}", self.session), body);
        assert!(value.get("error").is_none(), "{path} {body}: {}", value["message"]);
        value
    }

    #[track_caller]
    pub(crate) fn open(&self, address: &str) {
        self.within("/url", &json!({"url": address}));
    }

    /// What a script gives; tests only look with it.
    #[track_caller]
    pub(crate) fn ask(&self, script: &str) -> Value {
        self.within("/execute/sync", &json!({"script": format!("return {script}"), "args": []}))
    }

    /// The text of the first element; empty if there is none.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.ask(&format!("(document.querySelector({selector:?})?.innerText ?? '')"));
        text.as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn address(&self) -> String {
        self.ask("location.href").as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = self.within("/element", &json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no {selector}")).to_owned()
    }

    /// Clicks as a person does: the element has to be there and in reach.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.within(&format!("/element/{element}/click"), &json!({}));
    }

    #[track_caller]
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.within(&format!("/element/{element}/value"), &json!({"text": text}));
    }

    /// A key by itself, given with its number and, where it types something, that.
    #[track_caller]
    pub(crate) fn press(&self, (key, number, text): (&str, u32, &str)) {
        for kind in ["keyDown", "keyUp"] {
            let event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": number, "text": text});
            self.devtools("Input.dispatchKeyEvent", &event);
        }
    }

    /// Moves the mouse over the first element.
    #[track_caller]
    pub(crate) fn point_at(&self, selector: &str) {
        let place = self.ask(&format!(
            "(({{x, y}}) => ({{x: x + 3, y: y + 3}}))(document.querySelector({selector:?}).getBoundingClientRect())"
        ));
        let event = json!({"type": "mouseMoved", "x": place["x"], "y": place["y"]});
        self.devtools("Input.dispatchMouseEvent", &event);
    }

    /// A command of Chromium's own protocol.
    #[track_caller]
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.within("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    #[track_caller]
    pub(crate) fn wait(&self, what: &str, script: &str) {
        wait_until(what, SOON, || self.ask(script) == json!(true));
    }

    /// What the page's scripts and its policy complained of.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.within("/se/log", &json!({"type": "browser"}));
        let entries = log.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .filter(|entry| entry["level"] != "INFO")
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    /// A picture of the window, as a PNG file.
    #[track_caller]
    pub(crate) fn photograph(&self, path: &Path) {
        let picture = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        let bytes = from_base64(picture["data"].as_str().expect("a picture"));
        assert!(bytes.starts_with(b"\x89PNG"), "{}", path.display());
        std::fs::write(path, bytes).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        drop(self.guardian.wait());
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}
