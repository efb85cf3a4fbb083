//! The program itself, in process, on a SQLite file in memory, at a time of the test's choice.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::Nullable;
use duly::config::{Config, DatabaseUrl, LoadOptions};
use duly::db::{AnyText, Sql};
use duly::job::Outcome;
use duly::runner::rehearsal::Rehearsal;
use duly::store::{Claimed, NewJob, Scope as Paused, Store, StoreError};
use tempfile::TempDir;

use super::cron::Ms;
use super::model::{LEASE, NAMES};
use super::plan::{Ending, File, QUEUES, Scope};
use super::yaml;

/// A job as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) at: Option<Ms>,
    pub(super) state: String,
    pub(super) attempts: u32,
    pub(super) run_at: Ms,
    pub(super) queue: String,
    /// Where it stands in its queue by priority, which age improves.
    pub(super) order: i64,
    pub(super) is_held: bool,
    pub(super) reason: String,
}

pub(super) struct Tick {
    pub(super) rehearsal: Rehearsal,
    pub(super) held: Vec<Claimed>,
}

/// A folder with a database, which one sequence after the other uses.
pub(super) struct World {
    folder: TempDir,
    /// Connections that no tick has.
    idle: Vec<Store>,
    pub(super) ticks: Vec<Tick>,
    /// The releases of each host, and when the last one of any was put in place.
    releases: [Vec<PathBuf>; 2],
    placed: (i64, i64),
    configs: BTreeMap<PathBuf, Arc<Config>>,
}

#[derive(QueryableByName)]
struct Text {
    #[diesel(sql_type = Nullable<AnyText>)]
    text: Option<String>,
}

pub(super) const JOBS: &str = "SELECT group_concat(line, char(10)) AS text FROM (SELECT id || '|' || name || '|' || \
     COALESCE(CAST(round(unixepoch(scheduled_for, 'subsec') * 1000) AS INTEGER), '') || '|' || state || '|' || attempts || '|' || \
     CAST(round(unixepoch(run_at, 'subsec') * 1000) AS INTEGER) || '|' || queue || '|' || priority_order || '|' || \
     (owner IS NOT NULL) || '|' || COALESCE(reason, '') AS line FROM duly_job ORDER BY id)";

impl World {
    pub(super) fn new() -> World {
        let folder = tempfile::Builder::new()
            .prefix("duly-explorer-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in("/dev/shm")
            .unwrap();
        let mut world = World {
            folder,
            idle: Vec::new(),
            ticks: Vec::new(),
            releases: [Vec::new(), Vec::new()],
            placed: (0, 0),
            configs: BTreeMap::new(),
        };
        let mut store = world.connection();
        store.migrate().unwrap();
        world.idle.push(store);
        world
    }

    fn connection(&mut self) -> Store {
        self.idle.pop().unwrap_or_else(|| {
            let url = format!("sqlite:{}/jobs.db", self.folder.path().display());
            let database = DatabaseUrl::parse(&url, Path::new("/")).unwrap();
            let mut store = Store::connect(&duly::runner::location(&database)).unwrap();
            store.execute(&Sql::new("PRAGMA synchronous = OFF")).unwrap();
            store
        })
    }

    /// With an empty database, and without ticks.
    pub(super) fn clear(&mut self) {
        while !self.ticks.is_empty() {
            self.end_tick(0);
        }
        self.releases = [Vec::new(), Vec::new()];
        self.configs.clear();
        let mut store = self.connection();
        let tables = "SELECT group_concat(name, ' ') AS text FROM sqlite_master WHERE type = 'table' AND name LIKE 'duly_%' \
                      AND name NOT IN ('duly_migration', 'duly_pause')";
        let tables = store.rows::<Text>(&Sql::new(tables)).unwrap().remove(0).text.unwrap();
        let deletes = tables.split(' ').map(|table| format!("DELETE FROM {table}"));
        store.execute(&Sql::new("BEGIN IMMEDIATE")).unwrap();
        let others =
            ["DELETE FROM sqlite_sequence", "DELETE FROM duly_pause WHERE scope <> 'gate'", "COMMIT"];
        for statement in deletes.chain(others.map(str::to_owned)) {
            store.execute(&Sql::new(statement)).unwrap();
        }
        self.idle.push(store);
    }

    fn host(&self, host: usize) -> PathBuf {
        self.folder.path().join(format!("host{host}"))
    }

    /// Puts a file in place on a host, as a release to which a link leads.
    pub(super) fn place(&mut self, host: usize, file: &File) {
        let folder = self.host(host);
        let release = folder.join(self.releases[host].len().to_string());
        for folder in [&release, &folder.join("state")] {
            fs::create_dir_all(folder).unwrap();
            fs::set_permissions(folder, Permissions::from_mode(0o700)).unwrap();
        }
        let head = format!(
            "database: sqlite:{}/jobs.db\nrunner: {{concurrency: 3, lease: {}s, state_dir: {}/state}}\n",
            self.folder.path().display(),
            LEASE / 1000,
            folder.display()
        );
        let path = release.join("jobs.yaml");
        fs::write(&path, yaml::text(file, &head, "['true']")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        // Later than the one before, as the file system counts time.
        loop {
            let next = folder.join("next");
            symlink(&release, &next).unwrap();
            let found = next.symlink_metadata().unwrap();
            fs::rename(&next, folder.join("current")).unwrap();
            if (found.ctime(), found.ctime_nsec()) > self.placed {
                self.placed = (found.ctime(), found.ctime_nsec());
                break;
            }
        }
        self.configs.remove(&folder.join("current/jobs.yaml"));
        self.releases[host].push(path);
    }

    fn config(&mut self, host: usize, is_apart: bool) -> Arc<Config> {
        let releases = &self.releases[host];
        let path = match releases.len().checked_sub(2) {
            Some(before) if is_apart => releases[before].clone(),
            _ => self.host(host).join("current/jobs.yaml"),
        };
        let read = || {
            let options = LoadOptions { path: Some(path.clone()), database_url: None };
            Arc::new(duly::config::load(&options).unwrap_or_else(|err| panic!("{err}")))
        };
        Arc::clone(self.configs.entry(path.clone()).or_insert_with(read))
    }

    /// A tick begins, by the file that lies there, or by the one that lay there before.
    pub(super) fn begin(&mut self, host: usize, is_apart: bool) {
        let (config, store) = (self.config(host, is_apart), self.connection());
        let rehearsal = Rehearsal::new(config, store, &format!("host{host}"), self.host(host).join("state"));
        self.ticks.push(Tick { rehearsal, held: Vec::new() });
    }

    pub(super) fn end_tick(&mut self, tick: usize) {
        self.idle.push(self.ticks.remove(tick).rehearsal.into_store());
    }

    /// Renews the leases of all ticks; each forgets what it no longer holds.
    pub(super) fn renew(&mut self) {
        for tick in self.ticks.iter_mut().filter(|tick| !tick.held.is_empty()) {
            let ids: Vec<i64> = tick.held.iter().map(|job| job.id).collect();
            let owner = tick.rehearsal.owner().to_owned();
            let store = tick.rehearsal.store();
            store.renew(&owner, &ids, Duration::from_millis(LEASE.unsigned_abs())).unwrap();
            let held = store.held(&owner, &ids).unwrap();
            let holds = |job: &Claimed| held.iter().any(|held| (held.id, held.fence) == (job.id, job.fence));
            let (held, lost): (Vec<Claimed>, Vec<Claimed>) = tick.held.drain(..).partition(holds);
            lost.iter().for_each(|job| tick.rehearsal.lose(job));
            tick.held = held;
        }
    }

    pub(super) fn end(&mut self, tick: usize, held: usize, ending: Ending) {
        let tick = &mut self.ticks[tick];
        let job = tick.held.remove(held);
        let owner = tick.rehearsal.owner().to_owned();
        let outcome = match ending {
            Ending::Success => Outcome::Success,
            Ending::Exit(code) => Outcome::Exited(code),
            Ending::Signal(signal) => Outcome::Signalled(signal),
            Ending::TimedOut => Outcome::TimedOut,
            Ending::Cancelled => {
                let held = tick.rehearsal.store().held(&owner, &[job.id]).unwrap();
                if held.iter().any(|held| held.cancel == 1) { Outcome::Cancelled } else { Outcome::Success }
            }
        };
        tick.rehearsal.end(&job, outcome).unwrap();
    }

    pub(super) fn stop(&mut self, tick: usize) {
        let tick = &mut self.ticks[tick];
        for job in std::mem::take(&mut tick.held) {
            tick.rehearsal.end(&job, Outcome::Interrupted).unwrap();
        }
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.connection();
        let done = work(&mut store);
        self.idle.push(store);
        done
    }

    pub(super) fn pause(&mut self, scope: Scope, is_paused: bool) {
        let scope = match scope {
            Scope::Name(name) => Paused::Job(NAMES[name].to_owned()),
            Scope::Queue(queue) => Paused::Queue(QUEUES[queue].to_owned()),
        };
        self.with(|store| match is_paused {
            true => store.pause(&scope, None, "explorer", None).unwrap(),
            false => drop(store.resume(&scope).unwrap()),
        });
    }

    pub(super) fn cancel(&mut self, id: i64) {
        self.with(|store| store.cancel_with_children(id, "cancelled", false).unwrap());
    }

    /// As `duly start` and `duly retry` do.
    fn enqueue(&mut self, job: impl FnOnce(&mut Store, &Config) -> Option<NewJob>) {
        let config = self.config(0, false);
        self.with(|store| {
            let Some(job) = job(store, &config) else { return };
            match store.enqueue(&[job], &|name| config.definition(name)) {
                Ok(_) | Err(StoreError::Taken { .. }) => {}
                Err(err) => panic!("{err}"),
            }
        });
    }

    pub(super) fn start(&mut self, name: &str) {
        self.enqueue(|_, config| config.definition(name).map(NewJob::of));
    }

    pub(super) fn retry(&mut self, id: i64) {
        self.enqueue(|store, config| {
            let old = store.job(id).unwrap().unwrap();
            config.definition(&old.name).map(|definition| NewJob::again(&old, definition))
        });
    }

    pub(super) fn jobs(&mut self) -> Vec<Found> {
        let text = self.with(|store| store.rows::<Text>(&Sql::new(JOBS)).unwrap().remove(0).text);
        text.iter().flat_map(|text| text.lines()).map(found).collect()
    }
}

pub(super) fn found(line: &str) -> Found {
    let cells: Vec<&str> = line.splitn(10, '|').collect();
    Found {
        id: cells[0].parse().unwrap(),
        name: cells[1].to_owned(),
        at: cells[2].parse().ok(),
        state: cells[3].to_owned(),
        attempts: cells[4].parse().unwrap(),
        run_at: cells[5].parse().unwrap(),
        queue: cells[6].to_owned(),
        order: cells[7].parse().unwrap(),
        is_held: cells[8] == "1",
        reason: cells[9].to_owned(),
    }
}

/// Where each job stands in its queue by priority.
pub(super) fn order(found: &[Found]) -> BTreeMap<i64, i64> {
    found.iter().map(|job| (job.id, job.order)).collect()
}
