//! The list: which jobs are read, which of them are shown, in which order, and which is chosen.

use std::cmp::Ordering;

use super::super::list::{HEADINGS, as_row};
use super::{Act, Ask};
use crate::config::Config;
use crate::job::State;
use crate::render::Style;
use crate::render::screen::{Body, Column, Key, Page};
use crate::store::{Job, ListFilter};

/// The columns of jobs; what they are called is in `list.rs`.
const OF_JOBS: [Column; 8] = [
    Column { heading: HEADINGS[0], dispensable: 0, least: 20, usual: 0 },
    Column { heading: HEADINGS[1], dispensable: 0, least: 12, usual: 0 },
    Column { heading: HEADINGS[2], dispensable: 0, least: 9, usual: 9 },
    Column { heading: HEADINGS[3], dispensable: 5, least: 10, usual: 0 },
    Column { heading: HEADINGS[4], dispensable: 4, least: 7, usual: 0 },
    Column { heading: HEADINGS[5], dispensable: 2, least: 19, usual: 19 },
    Column { heading: HEADINGS[6], dispensable: 3, least: 8, usual: 6 },
    Column { heading: HEADINGS[7], dispensable: 1, least: 10, usual: 0 },
];

const OF_DECLARED: [Column; 2] = [
    Column { heading: "NAME", dispensable: 0, least: 12, usual: 0 },
    Column { heading: "DESCRIPTION", dispensable: 1, least: 10, usual: 0 },
];

/// A row and what it stands for.
struct Row {
    id: i64,
    name: String,
    cells: Vec<(String, Style)>,
    sorted_by: [Weight; 8],
}

/// What a cell is sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    Number(i64),
    Text(String),
}

/// Rows, and where the person is among them.
pub(super) struct List {
    /// Which jobs are read.
    pub(super) filter: ListFilter,
    rows: Vec<Row>,
    cells: Vec<Vec<(String, Style)>>,
    columns: &'static [Column],
    /// The chosen row, and the job that it is.
    chosen: usize,
    chosen_id: Option<i64>,
    /// Sorted by this column; `None` as the database gives them.
    sorted: Option<usize>,
    is_turned: bool,
    text: String,
    is_typing: bool,
}

impl List {
    /// Jobs, none yet.
    pub(super) fn of_jobs(filter: ListFilter) -> Self {
        Self {
            filter,
            rows: Vec::new(),
            cells: Vec::new(),
            columns: &OF_JOBS,
            chosen: 0,
            chosen_id: None,
            sorted: None,
            is_turned: false,
            text: String::new(),
            is_typing: false,
        }
    }

    /// What jobs.yaml declares.
    pub(super) fn of_declared(config: &Config) -> Self {
        let mut list = Self { columns: &OF_DECLARED, ..Self::of_jobs(ListFilter::default()) };
        for (id, definition) in (0..).zip(config.definitions.iter()) {
            let words = definition.label.as_ref().or(definition.description.as_ref());
            let cells = vec![
                (definition.name.clone(), Style::Plain),
                (words.cloned().unwrap_or_default(), Style::Plain),
            ];
            let sorted_by = std::array::from_fn(|_| Weight::Number(id));
            list.rows.push(Row { id, name: definition.name.clone(), cells, sorted_by });
        }
        list.arrange();
        list
    }

    /// Shows these; the chosen one stays chosen, wherever it is now.
    pub(super) fn set_jobs(&mut self, jobs: &[Job]) {
        self.rows = jobs.iter().map(row_of).collect();
        self.arrange();
    }

    /// Sorts and filters what is there.
    fn arrange(&mut self) {
        let turn = |order: Ordering| if self.is_turned { order.reverse() } else { order };
        match self.sorted {
            Some(column) => {
                self.rows.sort_by(|a, b| {
                    turn(a.sorted_by[column].cmp(&b.sorted_by[column])).then(b.id.cmp(&a.id))
                });
            }
            None if self.is_turned => self.rows.sort_by_key(|row| row.id),
            None => {}
        }
        self.cells = self.shown().map(|row| row.cells.clone()).collect();
        let at = self.shown().position(|row| Some(row.id) == self.chosen_id);
        self.chosen = at.unwrap_or_else(|| self.chosen.min(self.cells.len().saturating_sub(1)));
        self.note_chosen();
    }

    fn shown(&self) -> impl Iterator<Item = &Row> {
        let wanted = self.text.to_lowercase();
        self.rows.iter().filter(move |row| {
            wanted.is_empty() || row.cells.iter().any(|(text, _)| text.to_lowercase().contains(&wanted))
        })
    }

    fn choose(&mut self, at: usize) {
        self.chosen = at.min(self.cells.len().saturating_sub(1));
        self.note_chosen();
    }

    fn note_chosen(&mut self) {
        let id = self.chosen_row().map(|row| row.id);
        self.chosen_id = id;
    }

    fn chosen_row(&self) -> Option<&Row> {
        self.shown().nth(self.chosen)
    }

    /// The name that the chosen row is about.
    pub(super) fn chosen_name(&self) -> Option<String> {
        self.chosen_row().map(|row| row.name.clone())
    }

    pub(super) fn page(&self) -> Page<'_> {
        let foot = match (self.is_typing, self.columns.len()) {
            (true, _) => format!("only what has in it: {}▏ (enter: done, escape: everything)", self.text),
            (false, 2) => "enter: start it · up, down · q: back".to_owned(),
            (false, _) => "enter: output · c: cancel · r: retry · s: start · f: state · n: name · /: find · o: sort · ?: help · q: quit"
                .to_owned(),
        };
        Page {
            head: self.head(),
            body: Body::Table {
                columns: self.columns,
                rows: &self.cells,
                chosen: self.chosen,
                empty: "None.",
            },
            foot,
            foot_style: if self.is_typing { Style::Active } else { Style::Faint },
        }
    }

    fn head(&self) -> String {
        if self.columns.len() == 2 {
            return "start which job?".to_owned();
        }
        let mut head = format!("{} jobs", self.cells.len());
        let mut add = |text: String| {
            head.push_str(" · ");
            head.push_str(&text);
        };
        if let Some(state) = self.filter.state {
            add(format!("only {state}"));
        }
        if let Some(queue) = &self.filter.queue {
            add(format!("only queue {queue}"));
        }
        if let Some(name) = &self.filter.name {
            add(format!("only {name}"));
        }
        if !self.text.is_empty() {
            add(format!("only with `{}`", self.text));
        }
        if let Some(column) = self.sorted {
            add(format!("by {}{}", HEADINGS[column], if self.is_turned { ", downwards" } else { "" }));
        } else if self.is_turned {
            add("oldest first".to_owned());
        }
        head
    }

    /// Moves as a key says; returns whether it was a key that moves.
    pub(super) fn moved(&mut self, key: Key, rows: usize) -> bool {
        let at = match key {
            Key::Up | Key::Char('k') => self.chosen.saturating_sub(1),
            Key::Down | Key::Char('j') => self.chosen + 1,
            Key::PageUp | Key::Char('b') => self.chosen.saturating_sub(rows),
            Key::PageDown | Key::Char(' ') => self.chosen + rows,
            Key::Home | Key::Char('g') => 0,
            Key::End | Key::Char('G') => usize::MAX,
            _ => return false,
        };
        self.choose(at);
        true
    }

    pub(super) fn key(&mut self, key: Key, rows: usize) -> Ask {
        if self.is_typing {
            return self.typed(key);
        }
        if self.moved(key, rows) {
            return Ask::Nothing;
        }
        let chosen = self.chosen_id;
        match key {
            Key::Enter | Key::Char('+') => return chosen.map_or(Ask::Nothing, Ask::Open),
            Key::Char('c') => return chosen.map_or(Ask::Nothing, |id| Ask::Confirm(Act::Cancel(id))),
            Key::Char('r') => return chosen.map_or(Ask::Nothing, |id| Ask::Confirm(Act::Retry(id))),
            Key::Char('s') => return Ask::Declared,
            Key::Char('q') => return Ask::Quit,
            Key::Char('?' | 'h') => return Ask::Help,
            Key::Char('f') => self.filter.state = step(self.filter.state, true),
            Key::Char('F') => self.filter.state = step(self.filter.state, false),
            Key::Char('n') => {
                self.filter.name = if self.filter.name.is_none() { self.chosen_name() } else { None };
            }
            Key::Char('a') => {}
            Key::Char('o') => {
                self.sorted = self.sorted.map_or(Some(0), |at| (at + 1 < HEADINGS.len()).then_some(at + 1));
                self.arrange_if_sorted();
                return if self.sorted.is_none() { Ask::Read } else { Ask::Nothing };
            }
            Key::Char('O') => {
                self.is_turned = !self.is_turned;
                self.arrange_if_sorted();
                return if self.sorted.is_none() { Ask::Read } else { Ask::Nothing };
            }
            Key::Char('/') => {
                self.is_typing = true;
                return Ask::Nothing;
            }
            _ => return Ask::Nothing,
        }
        Ask::Read
    }

    fn arrange_if_sorted(&mut self) {
        if self.sorted.is_some() {
            self.arrange();
        }
    }

    fn typed(&mut self, key: Key) -> Ask {
        match key {
            Key::Char(c) => self.text.push(c),
            Key::Backspace => {
                self.text.pop();
            }
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.text.clear();
                self.is_typing = false;
            }
            _ => {}
        }
        self.arrange();
        Ask::Nothing
    }
}

/// The state after `state`, or before it; between the last and the first there is none.
fn step(state: Option<State>, forward: bool) -> Option<State> {
    let all = State::ALL;
    let at = state.and_then(|state| all.iter().position(|other| *other == state));
    match (at, forward) {
        (None, true) => all.first().copied(),
        (None, false) => all.last().copied(),
        (Some(at), true) => all.get(at + 1).copied(),
        (Some(at), false) => at.checked_sub(1).map(|at| all[at]),
    }
}

fn row_of(job: &Job) -> Row {
    let cells = as_row(job).to_vec();
    let text = |at: usize| Weight::Text(cells[at].0.clone());
    let sorted_by = [
        Weight::Number(job.id),
        text(1),
        text(2),
        text(3),
        Weight::Number(job.attempts.into()),
        text(5),
        Weight::Number(job.duration_ms.unwrap_or(-1)),
        text(7),
    ];
    Row { id: job.id, name: job.name.clone(), cells, sorted_by }
}
