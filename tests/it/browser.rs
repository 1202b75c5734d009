//! A headless Chromium as somebody uses it with a keyboard, on a phone, without script; driven by its
//! DevTools protocol.

use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const DEADLINE: Duration = Duration::from_secs(30);
const POLL_EVERY: Duration = Duration::from_millis(50);
/// A small phone, in CSS pixels.
pub const PHONE: (u32, u32) = (320, 568);

pub struct Browser {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: String,
    calls: u64,
    _process: Child,
    _profile: TempDir,
}

impl Browser {
    /// A window as small as a phone, in which no page can run a script.
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let (process, address) = launch(&profile).await;
        let (socket, _) = connect_async(address).await.unwrap();
        let session = String::new();
        let mut browser = Self { socket, session, calls: 0, _process: process, _profile: profile };
        let tab = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": tab["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
        let (width, height) = PHONE;
        let phone = json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": true });
        browser.call("Emulation.setDeviceMetricsOverride", phone).await;
        browser
    }

    /// Goes to an address, and waits until its heading is there.
    pub async fn open(&mut self, address: &str, heading: &str) {
        self.call("Page.navigate", json!({ "url": address })).await;
        self.until(heading).await;
    }

    /// Waits for a page with this heading.
    pub async fn until(&mut self, heading: &str) {
        let wanted = json!(heading);
        let loaded = "document.readyState === 'complete' && document.querySelector('h1')?.textContent";
        self.wait(loaded, |found| *found == wanted, &format!("the heading {heading:?}")).await;
    }

    /// Waits until an expression has a value.
    pub async fn wait(&mut self, expression: &str, is_so: impl Fn(&Value) -> bool, what: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = self.look(expression).await;
            if is_so(&found) {
                return;
            }
            if Instant::now() > deadline {
                let shown = self.look("location + '\\n' + document.documentElement.innerText").await;
                panic!("not in time: {what}; {expression} is {found}; the page: {shown}");
            }
            sleep(POLL_EVERY).await;
        }
    }

    /// Types into what has the focus.
    pub async fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    pub async fn press(&mut self, key: Key) {
        let (name, code, text) = match key {
            Key::Tab => ("Tab", 9, ""),
            Key::Enter => ("Enter", 13, "\r"),
        };
        let pressed = json!({
            "type": if text.is_empty() { "rawKeyDown" } else { "keyDown" },
            "key": name, "code": name, "windowsVirtualKeyCode": code, "text": text,
        });
        self.call("Input.dispatchKeyEvent", pressed).await;
        let released = json!({ "type": "keyUp", "key": name, "code": name, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", released).await;
    }

    /// Presses Tab until this has the focus, as somebody without a mouse does.
    pub async fn tab_to(&mut self, label: &str) {
        const MOST: usize = 20;
        let focused =
            "(e => e?.labels?.[0]?.textContent.trim() ?? e?.textContent.trim())(document.activeElement)";
        for _ in 0..MOST {
            if self.look(focused).await == json!(label) {
                return;
            }
            self.press(Key::Tab).await;
        }
        panic!("Tab never comes to {label:?}: {}", self.look("document.documentElement.outerHTML").await);
    }

    /// The value of an expression on the page; the debugger may, where the page may not.
    pub async fn look(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let mut evaluated = self.call("Runtime.evaluate", params).await;
        evaluated["result"]["value"].take()
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut frame = json!({ "id": self.calls, "method": method, "params": params });
        if !self.session.is_empty() {
            frame["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
        let answer = async {
            loop {
                let Message::Text(text) = self.socket.next().await.unwrap().unwrap() else { continue };
                let mut answer: Value = serde_json::from_str(&text).unwrap();
                if answer["id"] == self.calls {
                    return answer["result"].take();
                }
            }
        };
        timeout(DEADLINE, answer).await.unwrap_or_else(|_| panic!("no answer to {method}"))
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Key {
    Tab,
    Enter,
}

/// Starts the program; the address of its debugger.
async fn launch(profile: &TempDir) -> (Child, String) {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        // Without its sandbox it also runs as root; it sees nothing but our own pages.
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--remote-debugging-port=0", "about:blank"]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let Ok(mut process) = command.spawn() else { continue };
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, address)) = line.split_once("DevTools listening on ") {
                    return Some(address.to_owned());
                }
            }
            None
        };
        let address = timeout(DEADLINE, address).await.ok().flatten();
        // What it says later must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        return (process, address.unwrap_or_else(|| panic!("{program} opens no debugger")));
    }
    panic!("there is no Chromium: use scripts/test");
}
