//! What forms do: cancel, retry, start, pause, resume, and what becomes of lost orders. Each is recorded with who did it,
//! and leads back to where the person was, with a line about what came of it.

use std::sync::Arc;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::TimeDelta;

use super::guard::set_cookie;
use super::problem::Problem;
use super::site::Site;
use super::visit::{SAID, Said, Visit, write_said};
use crate::config::Config;
use crate::job::shop::{ORDER, OrderState};
use crate::job::why::{Here, cancelling};
use crate::job::{Builtin, Definition, duration, is_hook};
use crate::process;
use crate::store::{Cancelled, Deed, NewJob, OrderChange, Scope, Store, StoreError};

/// A form as it came in, or why it did not.
pub(super) type Sent = Result<Form<Vec<(String, String)>>, FormRejection>;

/// The fields of a form whose token is this browser's.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Of a form that is from a page of ours.
    pub(super) fn of(site: &Site, visit: &Visit, sent: Sent) -> Result<Self, Problem> {
        let Form(fields) = sent.map_err(|rejected| {
            let status = match rejected.status() {
                StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            Problem::new(status, "Not understood", "The form could not be read; nothing was changed.")
        })?;
        let fields = Self(fields);
        if !visit.is_own_form(site, fields.get("token")) {
            return Err(Problem::forbidden(
                "This form is not from a page that this browser was given, or the page was started anew since. Go back, load the \
                 page again, and try again. Nothing was changed.",
            ));
        }
        Ok(fields)
    }

    /// The value of a field, without blanks around it; `None` where it is not there or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.as_typed(name).map(str::trim).filter(|value| !value.is_empty())
    }

    /// The value of a field to the letter.
    pub(super) fn as_typed(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// One value for each line of a field.
    fn lines(&self, name: &str) -> Option<Vec<String>> {
        Some(self.as_typed(name)?.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
    }
}

/// Leads to another page, which is then fetched with GET.
pub(super) fn see(address: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(value) = HeaderValue::from_str(address) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// Leads back to where the form was, with what came of it.
fn answer(
    site: &Site,
    visit: &Visit,
    fields: &Fields,
    done: Result<String, Problem>,
) -> Result<Response, Problem> {
    let said = match done {
        Ok(text) => Said { is_good: true, text },
        Err(problem) => Said { is_good: false, text: problem.refusal()? },
    };
    let mut response = see(own_address(fields.get("back")));
    set_cookie(&mut response, SAID, &write_said(site, &said), Some(60), visit.is_secure);
    Ok(response)
}

/// An address on this server, whatever a form says.
fn own_address(back: Option<&str>) -> &str {
    let is_own = |back: &&str| {
        back.starts_with('/')
            && !back.starts_with("//")
            && back.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    back.filter(is_own).unwrap_or("/")
}

/// Records what was done; that it was done is more than that it is written down.
fn note(store: &mut Store, who: &str, (did, subject): (&str, &str), detail: Option<&str>) {
    if let Err(err) = store.note(&Deed { who, via: "web", did, subject, detail }) {
        log::warn!("not recorded: {who} did `{did}` to {subject} ({err})");
    }
}

fn definition<'a>(config: &'a Config, name: &str) -> Result<&'a Definition, Problem> {
    let found = config.definition(name).filter(|definition| !is_hook(&definition.name));
    found.ok_or_else(|| Problem::refused(format!("jobs.yaml declares no job `{name}`")))
}

pub(super) async fn cancel(
    State(site): State<Arc<Site>>,
    Path(id): Path<i64>,
    visit: Visit,
    sent: Sent,
) -> Result<Response, Problem> {
    let fields = Fields::of(&site, &visit, sent)?;
    let (who, kill) = (visit.name(), fields.as_typed("kill").is_some());
    let change = site.database.change(move |store| {
        let done = store.cancel_with_children(id, &format!("cancelled by {who} on the web page"), kill)?;
        if matches!(done, Cancelled::Now | Cancelled::Requested) {
            let detail = kill.then_some("with the children that run");
            note(store, &who, ("cancel", &format!("job {id}")), detail);
        }
        let facts = if done == Cancelled::Requested { store.facts(id, &|_| None)? } else { None };
        Ok((done, facts.map(|facts| cancelling(&facts, &Here::default()))))
    });
    let done = change.await.and_then(|(done, said)| match done {
        Cancelled::Now => Ok(format!("job {id} is cancelled")),
        Cancelled::Requested => Ok(said.unwrap_or_else(|| format!("job {id} is to be cancelled"))),
        Cancelled::Ended(state) => Err(Problem::refused(format!("job {id} has ended before: it is {state}"))),
        Cancelled::Unknown => Err(Problem::refused(format!("there is no job {id}"))),
    });
    answer(&site, &visit, &fields, done)
}

pub(super) async fn retry(
    State(site): State<Arc<Site>>,
    Path(id): Path<i64>,
    visit: Visit,
    sent: Sent,
) -> Result<Response, Problem> {
    let fields = Fields::of(&site, &visit, sent)?;
    let done = retry_job(&site, &visit, id).await;
    answer(&site, &visit, &fields, done)
}

async fn retry_job(site: &Site, visit: &Visit, id: i64) -> Result<String, Problem> {
    let (config, _) = site.config();
    let who = visit.name();
    let old = site.database.read(move |store| store.job(id)).await?;
    let old = old.ok_or_else(|| Problem::refused(format!("there is no job {id}")))?;
    if !old.state.is_ended() {
        return Err(Problem::refused(format!("job {id} has not ended: it is {}", old.state)));
    }
    let job = NewJob::again(&old, definition(&config, &old.name)?);
    let change = site.database.change(move |store| {
        let ids = store.enqueue(&[job], &|name| config.definition(name))?;
        note(store, &who, ("retry", &format!("job {id}")), Some(&format!("as job {}", ids[0])));
        Ok(ids[0])
    });
    Ok(format!("job {} repeats job {id}", change.await?))
}

pub(super) async fn start(
    State(site): State<Arc<Site>>,
    visit: Visit,
    sent: Sent,
) -> Result<Response, Problem> {
    let fields = Fields::of(&site, &visit, sent)?;
    let done = start_job(&site, &visit, &fields).await;
    answer(&site, &visit, &fields, done)
}

async fn start_job(site: &Site, visit: &Visit, fields: &Fields) -> Result<String, Problem> {
    let (config, _) = site.config();
    let who = visit.name();
    let name = fields.get("name").ok_or_else(|| Problem::refused("choose what to start"))?.to_owned();
    let definition = definition(&config, &name)?;
    let mut job = NewJob::of(definition);
    if let Some(params) = fields.lines("params") {
        job.params = params;
    }
    job.target = (fields.get("target_type").map(str::to_owned), fields.get("target_id").map(str::to_owned));
    job.check(definition).map_err(Problem::refused)?;
    let change = site.database.change(move |store| {
        let ids = store.enqueue(std::slice::from_ref(&job), &|name| config.definition(name))?;
        note(
            store,
            &who,
            ("start", &format!("definition {}", job.name)),
            Some(&format!("as job {}", ids[0])),
        );
        Ok(ids[0])
    });
    Ok(format!("job {} ({name}) was put in", change.await?))
}

/// What a pause is about, its place in the trail, and in words.
fn scope(config: &Config, fields: &Fields) -> Result<(Scope, String), Problem> {
    match (fields.get("kind"), fields.get("name")) {
        (Some("all"), _) => Ok((Scope::All, "everything".to_owned())),
        (Some("queue"), Some(name)) if config.queues.iter().any(|queue| queue == name) => {
            Ok((Scope::Queue(name.to_owned()), format!("queue {name}")))
        }
        (Some("job"), Some(name)) => {
            definition(config, name)?;
            Ok((Scope::Job(name.to_owned()), format!("definition {name}")))
        }
        _ => Err(Problem::refused("jobs.yaml declares nothing like that")),
    }
}

pub(super) async fn pause(
    State(site): State<Arc<Site>>,
    visit: Visit,
    sent: Sent,
) -> Result<Response, Problem> {
    let fields = Fields::of(&site, &visit, sent)?;
    let done = pause_it(&site, &visit, &fields).await;
    answer(&site, &visit, &fields, done)
}

async fn pause_it(site: &Site, visit: &Visit, fields: &Fields) -> Result<String, Problem> {
    let (config, _) = site.config();
    let (scope, what) = scope(&config, fields)?;
    let length = fields.get("for").map(duration::parse).transpose().map_err(Problem::refused)?;
    let reason = fields.get("reason").map(str::to_owned);
    let who = visit.name();
    let subject = what.clone();
    let change = site.database.change(move |store| {
        let now = store.time()?;
        let until = length.and_then(|length| Some(now + TimeDelta::from_std(length).ok()?));
        store.pause(&scope, until, &who, reason.as_deref())?;
        note(store, &who, ("pause", &subject), reason.as_deref());
        Ok(until)
    });
    let until = change.await?;
    let until = until.map_or_else(String::new, |at| format!(" until {} UTC", at.format("%Y-%m-%d %H:%M:%S")));
    Ok(format!("{what} is paused{until}; what runs goes on to its end"))
}

pub(super) async fn resume(
    State(site): State<Arc<Site>>,
    visit: Visit,
    sent: Sent,
) -> Result<Response, Problem> {
    let fields = Fields::of(&site, &visit, sent)?;
    let done = resume_it(&site, &visit, &fields).await;
    answer(&site, &visit, &fields, done)
}

async fn resume_it(site: &Site, visit: &Visit, fields: &Fields) -> Result<String, Problem> {
    let (config, _) = site.config();
    let (scope, what) = scope(&config, fields)?;
    let (who, subject) = (visit.name(), what.clone());
    let change = site.database.change(move |store| {
        let was_paused = store.resume(&scope)?;
        if was_paused {
            note(store, &who, ("resume", &subject), None);
        }
        Ok(was_paused)
    });
    if change.await? {
        Ok(format!("{what} goes on"))
    } else {
        Err(Problem::refused(format!("{what} is not paused")))
    }
}

pub(super) async fn resend_order(
    State(site): State<Arc<Site>>,
    visit: Visit,
    sent: Sent,
) -> Result<Response, Problem> {
    let fields = Fields::of(&site, &visit, sent)?;
    let done = resend(&site, &visit, &fields).await;
    answer(&site, &visit, &fields, done)
}

/// Puts a job in that sends one order, whatever its count; one that was taken out is put back first.
async fn resend(site: &Site, visit: &Visit, fields: &Fields) -> Result<String, Problem> {
    let (config, _) = site.config();
    let order = fields.get("order").ok_or_else(|| Problem::refused("choose an order"))?.to_owned();
    let is_configured = config.lost_orders.is_some();
    let sender = config.builtin(Builtin::ProcessLostOrders).filter(|_| is_configured).cloned();
    let sender =
        sender.ok_or_else(|| Problem::refused("jobs.yaml does not say how orders are sent (lost_orders)"))?;
    let who = visit.name();
    let named = order.clone();
    let change = site.database.change(move |store| {
        let table = config.order_table();
        let found = store.lost_order(&table, &named)?.and_then(|found| found.state);
        match found {
            Some(OrderState::Lost | OrderState::GivenUp) => {}
            Some(OrderState::Removed) => {
                let owner = process::new_owner();
                store.put_order_back(&table, &named, None, (&owner, &who))?;
            }
            Some(state @ (OrderState::Sending | OrderState::Confirmed)) => {
                return Err(StoreError::HeldBack(format!("order {named} is {state}; nothing is sent")));
            }
            None => return Err(StoreError::Unknown(format!("there is no lost order {named}"))),
        }
        let target = (Some(ORDER.to_owned()), Some(named.clone()));
        let job = NewJob { max_attempts: 1, target, ..NewJob::of(&sender) };
        let ids = store.enqueue(&[job], &|name| config.definition(name))?;
        note(store, &who, ("resend", &format!("order {named}")), Some(&format!("as job {}", ids[0])));
        Ok(ids[0])
    });
    Ok(format!("job {} sends order {order}", change.await?))
}

pub(super) async fn remove_order(
    State(site): State<Arc<Site>>,
    visit: Visit,
    sent: Sent,
) -> Result<Response, Problem> {
    let fields = Fields::of(&site, &visit, sent)?;
    let done = remove(&site, &visit, &fields).await;
    answer(&site, &visit, &fields, done)
}

async fn remove(site: &Site, visit: &Visit, fields: &Fields) -> Result<String, Problem> {
    let (config, _) = site.config();
    let order = fields.get("order").ok_or_else(|| Problem::refused("choose an order"))?.to_owned();
    let (who, named) = (visit.name(), order.clone());
    let change = site.database.change(move |store| {
        let owner = process::new_owner();
        let done = store.remove_order(&config.order_table(), &named, (&owner, &who))?;
        if done == OrderChange::Done {
            note(store, &who, ("remove", &format!("order {named}")), None);
        }
        Ok(done)
    });
    match change.await? {
        OrderChange::Done => Ok(format!("order {order} is taken out")),
        OrderChange::Refused(Some(state)) => {
            Err(Problem::refused(format!("order {order} is {state} and cannot be taken out")))
        }
        OrderChange::Refused(None) => Err(Problem::refused(format!("there is no lost order {order}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::own_address;

    #[test]
    fn a_form_leads_only_to_this_server() {
        for own in ["/", "/job/7", "/?state=failed&open=1,2"] {
            assert_eq!(own_address(Some(own)), own);
        }
        for other in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "job",
            "/a\r\nSet-Cookie: x",
            "/ü",
        ] {
            assert_eq!(own_address(Some(other)), "/", "{other}");
        }
        assert_eq!(own_address(None), "/");
    }
}
