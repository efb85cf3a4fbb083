//! A text that is longer than the screen, and where in it the person is.

use super::Ask;
use crate::render::Style;
use crate::render::screen::{Body, Key, Page};

/// How far one key moves sideways, in characters.
const SIDEWAYS: usize = 8;

/// A text with a place in it.
pub(super) struct Text {
    title: String,
    lines: Vec<String>,
    top: usize,
    left: usize,
    /// Its end is what is looked at, also when it grows.
    is_following: bool,
}

impl Text {
    /// Nothing yet; its end is looked at.
    pub(super) fn new(title: String) -> Self {
        Self { title, lines: Vec::new(), top: 0, left: 0, is_following: true }
    }

    pub(super) fn set(&mut self, text: &str) {
        self.lines = text.lines().map(str::to_owned).collect();
    }

    pub(super) fn begin(&mut self) {
        self.top = 0;
        self.is_following = false;
    }

    pub(super) fn page(&self) -> Page<'_> {
        let at = if self.is_following { "its end is followed" } else { "g, G: its beginning, its end" };
        Page {
            head: format!("{} · {} lines · {at}", self.title, self.lines.len()),
            body: Body::Text {
                lines: &self.lines,
                top: (!self.is_following).then_some(self.top),
                left: self.left,
            },
            foot: "q: back · arrows, page up, page down · c: cancel · r: retry · ?: help".to_owned(),
            foot_style: Style::Faint,
        }
    }

    pub(super) fn key(&mut self, key: Key, rows: usize) -> Ask {
        // A text has no line of headings.
        let rows = rows + 1;
        let last_top = self.lines.len().saturating_sub(rows);
        let top = if self.is_following { last_top } else { self.top.min(last_top) };
        let moved = match key {
            Key::Up | Key::Char('k') => top.saturating_sub(1),
            Key::Down | Key::Char('j') | Key::Enter => top + 1,
            Key::PageUp | Key::Char('b') => top.saturating_sub(rows),
            Key::PageDown | Key::Char(' ') => top + rows,
            Key::Home | Key::Char('g') => 0,
            Key::End | Key::Char('G') => usize::MAX,
            Key::Left | Key::Right => {
                let left =
                    if key == Key::Left { self.left.saturating_sub(SIDEWAYS) } else { self.left + SIDEWAYS };
                self.left = left.min(self.lines.iter().map(|line| line.chars().count()).max().unwrap_or(0));
                return Ask::Nothing;
            }
            Key::Char('q') | Key::Escape => return Ask::Back,
            Key::Char('?' | 'h') => return Ask::Help,
            _ => return Ask::Nothing,
        };
        self.is_following = moved >= last_top;
        self.top = moved.min(last_top);
        Ask::Nothing
    }
}
