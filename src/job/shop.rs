//! The words of the shop's own commands: which tables they work on, and where an order is in its life.
//!
//! Each command works on a table of Duly's own or on one that the shop has already; the types in here name the columns.

use std::fmt;
use std::str::FromStr;

/// Where content changes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeTable {
    /// Its name, perhaps with the schema's before it.
    pub table: String,
    /// A whole number, higher for later changes.
    pub id: String,
    /// Which content.
    pub content_id: String,
    /// What was done to it.
    pub action: String,
    /// What noticed it.
    pub triggered_by: Option<String>,
    /// The content's type.
    pub content_type: Option<String>,
    /// The language it is about.
    pub language: Option<String>,
    /// Anything else, as JSON or plain text.
    pub attributes: Option<String>,
}

impl ChangeTable {
    /// The table of that name with columns of the keys' own names.
    #[must_use]
    pub fn named(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            id: "id".to_owned(),
            content_id: "content_id".to_owned(),
            action: "action".to_owned(),
            triggered_by: None,
            content_type: None,
            language: None,
            attributes: None,
        }
    }

    /// Duly's own.
    #[must_use]
    pub fn own() -> Self {
        Self {
            triggered_by: Some("triggered_by".to_owned()),
            content_type: Some("content_type".to_owned()),
            language: Some("language".to_owned()),
            attributes: Some("attributes".to_owned()),
            ..Self::named("duly_content_change")
        }
    }

    /// Its columns by the keys that name them in jobs.yaml.
    #[must_use]
    pub fn columns(&self) -> Vec<(&'static str, &str)> {
        let always = [("id", &self.id), ("content_id", &self.content_id), ("action", &self.action)];
        let perhaps = [
            ("triggered_by", &self.triggered_by),
            ("content_type", &self.content_type),
            ("language", &self.language),
            ("attributes", &self.attributes),
        ];
        let always = always.into_iter().map(|(key, column)| (key, column.as_str()));
        always
            .chain(perhaps.into_iter().filter_map(|(key, column)| Some((key, column.as_deref()?))))
            .collect()
    }
}

/// Where orders are, and what the shop calls their states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTable {
    /// Its name, perhaps with the schema's before it.
    pub table: String,
    /// Whether it is Duly's own, which has more columns.
    pub is_own: bool,
    /// Which order.
    pub order_id: String,
    /// What is sent.
    pub payload: String,
    /// Where it is in its life.
    pub state: String,
    /// Takes the number that the ERP gives it.
    pub erp_order_id: Option<String>,
    /// Its transfer failed.
    pub lost: String,
    /// The ERP has it.
    pub confirmed: String,
    /// It is not tried any more; without a word for it the order stays lost, and Duly remembers.
    pub given_up: Option<String>,
    /// A person took it out; the same.
    pub removed: Option<String>,
}

impl OrderTable {
    /// Duly's own.
    #[must_use]
    pub fn own() -> Self {
        Self {
            table: "duly_lost_order".to_owned(),
            is_own: true,
            order_id: "order_id".to_owned(),
            payload: "payload".to_owned(),
            state: "state".to_owned(),
            erp_order_id: Some("erp_order_id".to_owned()),
            lost: "lost".to_owned(),
            confirmed: "confirmed".to_owned(),
            given_up: Some("given_up".to_owned()),
            removed: Some("removed".to_owned()),
        }
    }

    /// Its columns by the keys that name them in jobs.yaml.
    #[must_use]
    pub fn columns(&self) -> Vec<(&'static str, &str)> {
        let always = [("order_id", &self.order_id), ("payload", &self.payload), ("state", &self.state)];
        let always = always.into_iter().map(|(key, column)| (key, column.as_str()));
        always.chain(self.erp_order_id.as_deref().map(|column| ("erp_order_id", column))).collect()
    }

    /// What an ERP tells two tries at the same order by. It is the same for every try, whoever makes it and whatever
    /// was lost between them.
    #[must_use]
    pub fn idempotency_key(&self, order_id: &str) -> String {
        format!("{}:{order_id}", self.table)
    }
}

/// Where sessions are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTable {
    /// Its name, perhaps with the schema's before it.
    pub table: String,
    /// When a session was last used: seconds since 1970, or a date and time in UTC.
    pub time: String,
}

impl Default for SessionTable {
    /// As Symfony's `PdoSessionHandler` makes it.
    fn default() -> Self {
        Self { table: "sessions".to_owned(), time: "sess_time".to_owned() }
    }
}

/// The type of a job's target that is an order.
pub const ORDER: &str = "order";

/// Where an order is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderState {
    /// To be sent, now or after a wait.
    Lost,
    /// Being sent.
    Sending,
    /// The ERP has it.
    Confirmed,
    /// Not tried any more, unless somebody names it.
    GivenUp,
    /// Taken out by a person.
    Removed,
}

impl OrderState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Lost, Self::Sending, Self::Confirmed, Self::GivenUp, Self::Removed];

    /// The word shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Sending => "sending",
            Self::Confirmed => "confirmed",
            Self::GivenUp => "given_up",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for OrderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for OrderState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            format!("`{word}` is not a state of an order; expected one of {words}")
        })
    }
}

/// What a try at sending an order means for the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderVerdict {
    /// The ERP has it.
    Confirmed,
    /// It is sent again later, and this try counted.
    Again,
    /// It is sent again later; the try says nothing about the order.
    Uncounted,
    /// It is not sent any more.
    GivenUp,
}

impl OrderVerdict {
    /// The word stored with the try.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Again => "again",
            Self::Uncounted => "uncounted",
            Self::GivenUp => "given_up",
        }
    }
}
