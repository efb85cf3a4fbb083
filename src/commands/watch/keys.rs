//! What keys do in the views that lie over the list, and the page that tells all of them.

use super::list::List;
use super::text::Text;
use super::{Act, Ask};
use crate::render::screen::Key;

const HELP: &str = "\
In the list
  up, down, k, j        choose a job; page up, page down, g and G: a page, the first, the last
  enter, +              its attempts and its output
  c                     cancel it; r: put in a new job like it; both ask first
  s                     start a declared job
  f, F                  only jobs in the next state, the one before
  n                     only jobs of the chosen one's name, and all again
  /                     only what has this text in it; an empty one is everything
  o, O                  sort by the next column; turn the order round
  a                     look again now, rather than within 10 seconds
  q                     quit

In a job
  up, down, left, right, page up, page down, g, G     move; at its end, what comes is followed
  c, r                  as in the list
  q, escape             back

Everywhere
  ctrl-l                draw everything again
  ctrl-c                quit
";

pub(super) fn help() -> Text {
    let mut text = Text::new("keys".to_owned());
    text.set(HELP);
    text.begin();
    text
}

pub(super) fn of_a_job(id: i64, text: &mut Text, key: Key, rows: usize) -> Ask {
    match key {
        Key::Char('c') => Ask::Confirm(Act::Cancel(id)),
        Key::Char('r') => Ask::Confirm(Act::Retry(id)),
        Key::Char('a') => Ask::Read,
        _ => text.key(key, rows),
    }
}

pub(super) fn of_the_declared(list: &mut List, key: Key, rows: usize) -> Ask {
    match key {
        Key::Enter | Key::Char('s') => list.chosen_name().map_or(Ask::Nothing, Ask::Start),
        Key::Escape | Key::Char('q') => Ask::Back,
        _ => {
            list.moved(key, rows);
            Ask::Nothing
        }
    }
}
