//! `duly list --watch`: the last jobs on the whole terminal, looked at again every 10 seconds, and what keys do with them.
//!
//! Keys and signals come as messages, so the page is drawn only when something has happened. A database that is away is
//! told in the head and asked again. What a key means to a view is in `watch/list.rs` and `watch/text.rs`; what is done
//! to jobs is what `cancel`, `retry` and `start` do.

mod keys;
mod list;
mod text;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::list::List;
use self::text::Text;
use super::{Context, Usage, cancel, retry, show, start};
use crate::config::Config;
use crate::exit_code::ExitCode;
use crate::process::signals;
use crate::render::screen::{self, Happening, Key, Page, Screen};
use crate::render::{Style, utc_time};
use crate::store::{ListFilter, Store};

/// How often the list is read again.
const EVERY: Duration = Duration::from_secs(10);

/// How often the page of a job that has not ended is read again.
const EVERY_WHILE_IT_RUNS: Duration = Duration::from_secs(2);

/// What the loop is told.
enum Told {
    Screen(Happening),
    Signal(i32),
}

/// What a key of a view asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ask {
    Nothing,
    Read,
    Open(i64),
    Back,
    Quit,
    Help,
    Declared,
    Start(String),
    Confirm(Act),
}

/// What is done to a job once a person has confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Cancel(i64),
    Retry(i64),
}

/// What lies over the list.
enum Over {
    Nothing,
    Job { id: i64, text: Text, has_ended: bool },
    Declared(List),
    Help(Text),
}

struct Watch {
    config: Config,
    store: Option<Store>,
    list: List,
    over: Over,
    asking: Option<Act>,
    /// What the last key did, or what is wrong, until the next key.
    notice: Option<(String, Style)>,
    read_at: Instant,
    as_of: String,
}

pub(super) fn run(context: &Context, filter: ListFilter) -> Result<ExitCode> {
    if !screen::is_possible() {
        let text = "`list --watch` draws on a terminal, and standard input or output is none here; \
                    `duly list` prints the same once, `duly list --json` for programs";
        return Err(Usage(text.to_owned()).into());
    }
    let (config, store) = context.open()?;
    let mut watch = Watch {
        config,
        store: Some(store),
        list: List::of_jobs(filter),
        over: Over::Nothing,
        asking: None,
        notice: None,
        read_at: Instant::now(),
        as_of: String::new(),
    };
    watch.read_list()?;
    let (tell, told) = mpsc::channel();
    let of_signals = tell.clone();
    signals::on_any_end(move |signal| {
        // The loop may have ended already.
        let (Ok(()) | Err(_)) = of_signals.send(Told::Signal(signal));
    })
    .context("cannot watch for signals")?;
    let mut screen = Screen::open()?;
    // A line of the log would stand in the middle of the page; what is wrong is told in the head.
    log::set_max_level(log::LevelFilter::Off);
    screen::listen(move |happening| {
        let (Ok(()) | Err(_)) = tell.send(Told::Screen(happening));
    })?;
    loop {
        screen.draw(&watch.page())?;
        let happening = match told.recv_timeout(watch.until_next_read()) {
            Ok(Told::Signal(signal)) => return Ok(ExitCode::Signal(signal)),
            Ok(Told::Screen(happening)) => happening,
            Err(RecvTimeoutError::Timeout) => {
                watch.read();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::Success),
        };
        match happening {
            Happening::Gone => return Ok(ExitCode::Success),
            Happening::Resized => {}
            Happening::Key(Key::Ctrl('c')) => return Ok(ExitCode::Signal(signal_of_ctrl_c())),
            Happening::Key(Key::Ctrl('l')) => screen.forget()?,
            Happening::Key(key) => {
                if watch.key(key, screen.rows()) {
                    return Ok(ExitCode::Success);
                }
            }
        }
    }
}

const fn signal_of_ctrl_c() -> i32 {
    2
}

impl Watch {
    fn page(&self) -> Page<'_> {
        let mut page = match &self.over {
            Over::Nothing => self.list.page(),
            Over::Job { text, .. } | Over::Help(text) => text.page(),
            Over::Declared(list) => list.page(),
        };
        if matches!(self.over, Over::Nothing) {
            page.head = format!("{} · {}", page.head, self.as_of);
        }
        if let Some(act) = self.asking {
            page.foot = match act {
                Act::Cancel(id) => {
                    format!("cancel job {id}? y: yes · k: its running children too · any other key: no")
                }
                Act::Retry(id) => format!("put in a new job like {id}? y: yes · any other key: no"),
            };
            page.foot_style = Style::Active;
        } else if let Some((notice, style)) = &self.notice {
            page.foot.clone_from(notice);
            page.foot_style = *style;
        }
        page
    }

    fn until_next_read(&self) -> Duration {
        let every = match &self.over {
            Over::Job { has_ended: false, .. } => EVERY_WHILE_IT_RUNS,
            _ => EVERY,
        };
        every.saturating_sub(self.read_at.elapsed())
    }

    /// Does what a key asks for; returns whether to end.
    fn key(&mut self, key: Key, rows: usize) -> bool {
        self.notice = None;
        if let Some(act) = self.asking.take() {
            self.confirmed(act, key);
            return false;
        }
        let ask = match &mut self.over {
            Over::Nothing => self.list.key(key, rows),
            Over::Job { id, text, .. } => keys::of_a_job(*id, text, key, rows),
            Over::Declared(list) => keys::of_the_declared(list, key, rows),
            Over::Help(text) => text.key(key, rows),
        };
        match ask {
            Ask::Nothing => {}
            Ask::Quit => return true,
            Ask::Back => {
                self.over = Over::Nothing;
                self.read();
            }
            Ask::Read => self.read(),
            Ask::Help => self.over = Over::Help(keys::help()),
            Ask::Declared => self.over = Over::Declared(List::of_declared(&self.config)),
            Ask::Open(id) => {
                self.over = Over::Job { id, text: Text::new(format!("job {id}")), has_ended: false };
                self.read();
            }
            Ask::Confirm(act) => self.asking = Some(act),
            Ask::Start(name) => {
                self.over = Over::Nothing;
                self.act(|config, store| {
                    Ok(format!("job {} ({name}) is in", start::start(config, store, &name)?))
                });
            }
        }
        false
    }

    fn confirmed(&mut self, act: Act, key: Key) {
        match (act, key) {
            (Act::Cancel(id), Key::Char('y' | 'k')) => {
                self.act(|config, store| cancel::cancel(config, store, id, key == Key::Char('k')));
            }
            (Act::Retry(id), Key::Char('y')) => {
                self.act(|config, store| Ok(format!("job {} is in", retry::retry(config, store, id)?)));
            }
            _ => {}
        }
    }

    /// Does something to the database, tells how it went, and looks again.
    fn act(&mut self, act: impl FnOnce(&Config, &mut Store) -> Result<String>) {
        let config = &self.config;
        let done = Self::connected(&mut self.store, config).and_then(|store| act(config, store));
        self.read();
        self.notice = Some(match done {
            Ok(done) => (done, Style::Good),
            Err(err) => (format!("{err:#}"), Style::Bad),
        });
    }

    fn connected<'a>(store: &'a mut Option<Store>, config: &Config) -> Result<&'a mut Store> {
        match store {
            Some(store) => Ok(store),
            None => Ok(store.insert(crate::runner::open(config)?)),
        }
    }

    /// Reads what is on the screen again; what goes wrong is told, and the next time begins with a new connection.
    fn read(&mut self) {
        let read = match &self.over {
            Over::Job { id, .. } => self.read_job(*id),
            _ => self.read_list(),
        };
        self.read_at = Instant::now();
        if let Err(err) = read {
            self.store = None;
            self.notice = Some((format!("{err:#}"), Style::Bad));
        }
    }

    fn read_list(&mut self) -> Result<()> {
        let store = Self::connected(&mut self.store, &self.config)?;
        let jobs = store.list(&self.list.filter).context("cannot list jobs")?;
        let now = store.time().context("cannot ask the database for its time")?;
        self.as_of = format!("{} UTC", utc_time(Some(now)));
        self.list.set_jobs(&jobs);
        Ok(())
    }

    fn read_job(&mut self, id: i64) -> Result<()> {
        let store = Self::connected(&mut self.store, &self.config)?;
        let (page, ended) = show::page(store, id)?;
        if let Over::Job { text, has_ended, .. } = &mut self.over {
            text.set(&page);
            *has_ended = ended;
        }
        Ok(())
    }
}
