//! The whole terminal as one page that is drawn again and again.
//!
//! Only cells that changed are sent, in one write per page, so that it is usable over a slow line. The terminal gets its
//! modes, its cursor and what was on it back when the value goes, and when the program panics (which is the end of it
//! without any destructor). Keys are read by a thread of its own, so that nobody waits for a person. What to draw and
//! what a key means is left to the caller.

mod fit;
mod page;

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::{cursor, execute, terminal};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

pub use page::{Body, Column, Page};

/// More than a page has bytes, so that it goes out at once.
const PAGE_BYTES: usize = 256 * 1024;

/// Whether the terminal is in our hands.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal that is drawn on; given back when it goes.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    has_colours: bool,
}

/// What comes from the person at the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A key was pressed.
    Key(Key),
    /// The terminal has another size.
    Resized,
    /// The terminal is gone.
    Gone,
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// One that writes a character.
    Char(char),
    /// The same, with Ctrl.
    Ctrl(char),
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// An arrow.
    Left,
    /// An arrow.
    Right,
    /// A page back.
    PageUp,
    /// A page on.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// Yes, or open.
    Enter,
    /// No, or close.
    Escape,
    /// Takes a character away.
    Backspace,
}

/// Whether there is a terminal on both sides.
#[must_use]
pub fn is_possible() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

impl Screen {
    /// Takes the terminal: what was on it comes back later.
    ///
    /// # Errors
    ///
    /// When it cannot be set up.
    pub fn open() -> Result<Self> {
        restore_on_panic();
        IS_TAKEN.store(true, Ordering::SeqCst);
        let opened = Self::take();
        if opened.is_err() {
            restore();
        }
        opened.context("cannot draw on the terminal")
    }

    fn take() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(PAGE_BYTES, io::stdout()));
        Ok(Self { terminal: Terminal::new(backend)?, has_colours: super::has_colours() })
    }

    /// Shows a page; what is on the screen already is not sent again.
    ///
    /// # Errors
    ///
    /// When the terminal cannot be written to.
    pub fn draw(&mut self, page: &Page<'_>) -> Result<()> {
        let has_colours = self.has_colours;
        self.terminal
            .draw(|frame| page.draw(frame.buffer_mut(), has_colours))
            .context("cannot draw on the terminal")?;
        Ok(())
    }

    /// Forgets what is on the screen, so that all of it is sent again.
    ///
    /// # Errors
    ///
    /// When the terminal cannot be written to.
    pub fn forget(&mut self) -> Result<()> {
        self.terminal.clear().context("cannot draw on the terminal")
    }

    /// How many rows there are between the head and the foot of a page.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.terminal.size().map_or(1, |size| page::rows(size.height))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Tells what comes from the terminal, from a thread of its own, until it is gone.
///
/// # Errors
///
/// When there can be no such thread.
pub fn listen(mut tell: impl FnMut(Happening) + Send + 'static) -> Result<()> {
    let listening = move || {
        loop {
            match event::read() {
                Ok(event) => {
                    if let Some(happening) = happening(&event) {
                        tell(happening);
                    }
                }
                Err(_gone) => return tell(Happening::Gone),
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(listening).context("cannot read keys")?;
    Ok(())
}

fn happening(event: &Event) -> Option<Happening> {
    match event {
        Event::Resize(_, _) => Some(Happening::Resized),
        Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) => {
            let key = match code {
                KeyCode::Char(c) if modifiers.contains(KeyModifiers::CONTROL) => Key::Ctrl(*c),
                KeyCode::Char(c) => Key::Char(*c),
                KeyCode::Up => Key::Up,
                KeyCode::Down => Key::Down,
                KeyCode::Left => Key::Left,
                KeyCode::Right => Key::Right,
                KeyCode::PageUp => Key::PageUp,
                KeyCode::PageDown => Key::PageDown,
                KeyCode::Home => Key::Home,
                KeyCode::End => Key::End,
                KeyCode::Enter => Key::Enter,
                KeyCode::Esc => Key::Escape,
                KeyCode::Backspace => Key::Backspace,
                _ => return None,
            };
            Some(Happening::Key(key))
        }
        _ => None,
    }
}

/// Gives the terminal back; does nothing when it has been given back.
fn restore() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    // Each is tried whatever became of the others: a terminal that is gone needs none of them.
    let (Ok(()) | Err(_)) = execute!(out, terminal::LeaveAlternateScreen, cursor::Show);
    let (Ok(()) | Err(_)) = terminal::disable_raw_mode();
    let (Ok(()) | Err(_)) = out.flush();
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            usual(panic);
        }));
    });
}
