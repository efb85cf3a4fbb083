//! One scenario: three hosts with runners as processes, producers, and what the plan has happen to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::figures::Figures;
use super::load;
use super::oracle;
use super::plan::{self, Engine, Event, Plan, STORM, pick};
use crate::support::{Backend, Database, Proxy, Running, Sandbox, Server, Session, program, wait_until};
use crate::torture::Dice;

/// How many runners there are at once.
const RUNNERS: usize = 5;

/// Removes what the library of [`crate::support`] that sets clocks has left in memory of processes that were killed. In this order: one that finds such memory there
/// without its semaphore does not start.
pub(crate) fn forget_clocks() {
    for prefix in ["faketime_shm_", "sem.faketime_sem_"] {
        for file in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = file.file_name().into_string().unwrap_or_default();
            if name.strip_prefix(prefix).is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                // Another worker may have been faster.
                drop(fs::remove_file(file.path()));
            }
        }
    }
}

/// The servers of one worker, which its scenarios use one after the other.
pub(super) struct Ground {
    pub(super) engine: Engine,
    servers: Vec<Server>,
    /// Whether folders can be mounted, which takes root: else no disk is filled.
    can_mount: bool,
}

impl Ground {
    /// Starts what the engine needs. What this thread mounts is seen by what it starts, and by nobody else.
    pub(super) fn new(engine: Engine) -> Ground {
        let servers = match engine {
            Engine::Sqlite => Vec::new(),
            Engine::Server => vec![Server::start()],
            Engine::Galera => Server::cluster(),
            Engine::Group => Server::group(true),
            Engine::GroupOfOne => Server::group(false),
        };
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        let can_mount = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok()
            && nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).is_ok();
        Ground { engine, servers, can_mount }
    }

    /// Waits until what was done on the first node of a cluster has come to all of them.
    fn agree(&self) {
        if self.engine.is_cluster() {
            self.servers.iter().for_each(Server::catch_up);
        }
    }
}

/// What a job may have been seen as, and what was asked for.
#[derive(Default)]
pub(super) struct Seen {
    /// Ended jobs, as they were first seen.
    pub(super) ended: BTreeMap<i64, String>,
    pub(super) asked_to_cancel: BTreeSet<i64>,
    /// What `enqueue` said of each token: its exit code, what it printed, what it complained of.
    pub(super) produced: Vec<(String, Option<i32>, String, String)>,
    /// Rows inserted by an application.
    pub(super) inserted: u64,
    pub(super) initial: Vec<i64>,
    pub(super) wrong: Vec<String>,
}

/// What has to be undone at its time.
enum Undo {
    Thaw(Running),
    /// The same, but as soon as one of these jobs runs under a later fence.
    ThawWhenOvertaken(Running, Vec<(i64, i64)>),
    Quicken(usize),
    Answer(usize),
    Unlock(Session),
    Writable,
    Empty(PathBuf),
}

struct Scenario<'a> {
    ground: &'a mut Ground,
    s: Sandbox,
    hosts: Vec<Sandbox>,
    /// Of each host, in the same order; none on SQLite.
    proxies: Vec<Proxy>,
    log: PathBuf,
    plan: Plan,
    ticks: Vec<Running>,
    /// Told to stop, and waited for at the end.
    stopping: Vec<Running>,
    producers: Vec<(String, Running)>,
    undo: Vec<(Instant, Undo)>,
    has_full_disk: bool,
    seen: Seen,
    figures: Figures,
}

/// Carries a seed out; gives its figures, and what the oracle found wrong.
pub(super) fn run(ground: &mut Ground, seed: u64) -> (Figures, Vec<String>) {
    let engine = ground.engine;
    let mut dice = Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(engine as u64));
    // A small seed's first rolls are alike.
    for _ in 0..8 {
        dice.roll(2);
    }
    let plan = plan::make(engine, &mut dice);
    let batch = load::batch(&mut dice);
    let mut scenario = Scenario::begin(ground, plan);
    let output = scenario.hosts[0].duly(["enqueue", "--batch", "-"]).stdin(&batch).output();
    assert!(output.status.success(), "{output}");
    scenario.seen.initial = output.stdout.lines().map(|id| id.parse().unwrap()).collect();
    scenario.storm();
    scenario.calm_down();
    scenario.drain();
    forget_clocks();
    scenario.figures.seeds = 1;
    oracle::judge(&scenario.s, &scenario.hosts, &mut scenario.seen, &mut scenario.figures);
    (scenario.figures, scenario.seen.wrong)
}

impl Scenario<'_> {
    fn begin(ground: &mut Ground, plan: Plan) -> Scenario<'_> {
        let proxies: Vec<Proxy> = (0..3)
            .filter_map(|n| Some(Proxy::to(ground.servers.get(n % ground.servers.len().max(1))?.port())))
            .collect();
        let s = match ground.servers.first() {
            None => Sandbox::new(Backend::Sqlite),
            // The first one in turn is the sandbox that migrates.
            Some(server) => {
                let database = Database::on(server);
                ground.agree();
                let proxies = [&proxies[2], &proxies[0], &proxies[1]];
                Sandbox::on(match ground.engine {
                    Engine::GroupOfOne => database.through_any(proxies),
                    _ => database.through(proxies),
                })
            }
        };
        let migrated = s.duly(["migrate"]).output();
        assert!(migrated.status.success(), "{migrated}");
        ground.agree();
        let hosts: Vec<Sandbox> = (0..3).map(|_| s.beside()).collect();
        for host in &hosts {
            host.set_jobs(&load::jobs(&host.state_dir().display().to_string(), true));
            host.file("work", load::WORK);
        }
        let log = s.file("log", "");
        let mut scenario = Scenario {
            s,
            hosts,
            proxies,
            log,
            plan,
            ticks: Vec::new(),
            stopping: Vec::new(),
            producers: Vec::new(),
            undo: Vec::new(),
            has_full_disk: false,
            seen: Seen::default(),
            figures: Figures::default(),
            ground,
        };
        scenario.mount();
        scenario
    }

    /// The last host's state folder is on a small disk of its own.
    fn mount(&mut self) {
        if !self.ground.can_mount {
            return;
        }
        let folder = self.hosts[2].state_dir();
        fs::create_dir_all(&folder).unwrap();
        let options = Some("size=1m,mode=0700");
        nix::mount::mount(Some("tmpfs"), &folder, Some("tmpfs"), nix::mount::MsFlags::empty(), options)
            .unwrap();
    }

    fn storm(&mut self) {
        let began = Instant::now();
        let events = std::mem::take(&mut self.plan.events);
        let mut events = events.into_iter().peekable();
        let mut looked = Instant::now();
        while began.elapsed() < STORM || events.peek().is_some() {
            self.ticks.retain_mut(|tick| !tick.has_ended());
            if self.ticks.len() < RUNNERS && self.stopping.len() + self.undo.len() < 12 {
                self.start();
            }
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= began.elapsed()) {
                self.happen(event);
            }
            self.undo_due(false);
            if looked.elapsed() > Duration::from_millis(150) {
                looked = Instant::now();
                oracle::look(&self.s, &mut self.seen);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A tick on the next host, under that host's name, with its wall clock as planned.
    fn start(&mut self) {
        let turn = usize::try_from(self.figures.ticks).unwrap();
        self.figures.ticks += 1;
        let number = turn % 3;
        let mut tick = self.hosts[number].duly(["run"]).env("LOG", &self.log).env("DULY", program());
        if let Some(offset) = self.plan.clocks[turn % self.plan.clocks.len()] {
            self.figures.fault("wall clock set wrong");
            tick = tick.by_clock(offset);
        }
        if self.ground.can_mount {
            let name = format!("hostname host{number} && exec \"$@\"");
            tick = tick.under(&["unshare", "--uts", "sh", "-c", &name, "sh"]);
        }
        self.ticks.push(tick.spawn());
    }

    fn later(&mut self, length: Duration, undo: Undo) {
        self.undo.push((Instant::now() + length, undo));
    }

    /// One of the runners that there are.
    fn any_tick(&mut self, number: u64) -> Option<Running> {
        self.ticks.retain_mut(|tick| !tick.has_ended());
        let count = self.ticks.len();
        (count > 0).then(|| self.ticks.swap_remove(pick(&mut Dice::new(number << 8), count)))
    }

    fn happen(&mut self, event: Event) {
        let done = match event {
            Event::Kill(_) | Event::Stop(_) | Event::Freeze(..) => self.signal(event),
            Event::FreezeUntilOvertaken(number) => self.freeze_until_overtaken(number),
            Event::Cut(host) => self.on_network(host, "connections cut", |proxy| proxy.cut()),
            Event::Forget(host) => {
                self.on_network(host, "connections silent for ever", |proxy| proxy.forget())
            }
            Event::Slow(host, length) => {
                self.later(length, Undo::Quicken(host));
                self.on_network(host, "network slow", |proxy| proxy.delay(Duration::from_millis(60)))
            }
            Event::Swallow(host, length) => {
                self.later(length, Undo::Answer(host));
                self.on_network(host, "new connections not answered", |proxy| proxy.swallow(true))
            }
            Event::AtCommit(host, passed, fault) => {
                self.on_network(host, fault.name(), |proxy| proxy.at_commit(passed, fault))
            }
            Event::KillConnection(_) | Event::Lock(_) | Event::ReadOnly(_) | Event::KillServer(_) => {
                self.on_server(event)
            }
            Event::FillDisk(length) => self.fill_disk(length),
            Event::Enqueue(..) | Event::Insert | Event::Cancel(..) => {
                self.command(event);
                None
            }
        };
        if let Some(kind) = done {
            self.figures.fault(kind);
        }
    }

    fn signal(&mut self, event: Event) -> Option<&'static str> {
        let (Event::Kill(number) | Event::Stop(number) | Event::Freeze(number, _)) = event else {
            return None;
        };
        let mut tick = self.any_tick(number)?;
        match event {
            Event::Kill(_) => {
                tick.signal_if_alive(Signal::KILL);
                Some("runner killed")
            }
            Event::Freeze(_, length) => {
                tick.signal_if_running(Signal::STOP);
                self.later(length, Undo::Thaw(tick));
                Some("runner frozen")
            }
            _ => {
                tick.signal_if_running(Signal::TERM);
                self.stopping.push(tick);
                Some("runner told to stop")
            }
        }
    }

    /// Stops a runner when it has a job, at best.
    fn freeze_until_overtaken(&mut self, number: u64) -> Option<&'static str> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2500) {
            let Some(mut tick) = self.any_tick(number) else {
                self.start();
                std::thread::sleep(Duration::from_millis(60));
                continue;
            };
            tick.signal_if_running(Signal::STOP);
            let held = oracle::held_by_process(&self.s, &self.hosts, tick.pid().as_raw_nonzero().get());
            if held.is_empty() {
                tick.signal_if_running(Signal::CONT);
                self.ticks.push(tick);
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            self.later(Duration::from_secs(20), Undo::ThawWhenOvertaken(tick, held));
            return Some("runner frozen until overtaken");
        }
        None
    }

    fn on_network(&self, host: usize, kind: &'static str, what: impl FnOnce(&Proxy)) -> Option<&'static str> {
        what(self.proxies.get(host)?);
        Some(kind)
    }

    fn on_server(&mut self, event: Event) -> Option<&'static str> {
        match event {
            Event::KillConnection(number) => {
                let node = &self.ground.servers[pick(&mut Dice::new(number << 8), self.ground.servers.len())];
                let rows = node.administrator().rows(&format!(
                    "SELECT CAST(id AS CHAR) FROM information_schema.processlist WHERE user = '{}'",
                    self.s.database().user()
                ));
                let row = rows.get(pick(&mut Dice::new(number << 4), rows.len().max(1)))?;
                // It may have ended by itself meanwhile.
                node.administrator().try_sql(&format!("KILL {}", row[0].as_deref()?)).ok()?;
                Some("connection killed")
            }
            Event::Lock(length) => {
                let mut session = self.s.database().connect();
                let is_locked = if self.ground.engine == Engine::Sqlite {
                    session.sql("PRAGMA busy_timeout = 300");
                    session.try_sql("BEGIN IMMEDIATE").is_ok()
                } else {
                    session.sql("SET innodb_lock_wait_timeout = 1; SET autocommit = 0");
                    session.try_rows("SELECT id FROM duly_job WHERE state IN ('pending', 'running') ORDER BY id LIMIT 20 FOR UPDATE").is_some()
                };
                self.later(length, Undo::Unlock(session));
                is_locked.then_some("rows locked by others")
            }
            Event::ReadOnly(length) => {
                self.ground.servers[0].administrator().sql("SET GLOBAL read_only = 1");
                self.later(length, Undo::Writable);
                Some("server read only")
            }
            Event::KillServer(number) => {
                let nodes = self.ground.servers.len();
                let is_any = nodes == 1 || self.ground.engine == Engine::GroupOfOne;
                // Else never the first node of a cluster, through which this test looks.
                let node = if is_any {
                    pick(&mut Dice::new(number << 8), nodes)
                } else {
                    1 + pick(&mut Dice::new(number << 8), nodes - 1)
                };
                if nodes == 1 {
                    // A lock of this test's is gone as well.
                    self.undo.retain(|(_, undo)| !matches!(undo, Undo::Unlock(_) | Undo::Writable));
                }
                self.ground.servers[node].kill();
                std::thread::sleep(Duration::from_millis(300));
                self.ground.servers[node].start_again();
                if self.ground.engine == Engine::GroupOfOne && node == 0 {
                    // It is written through by this test again.
                    self.ground.servers[0].lead();
                }
                Some(if nodes == 1 { "server killed" } else { "node killed and rejoined" })
            }
            _ => None,
        }
    }

    fn fill_disk(&mut self, length: Duration) -> Option<&'static str> {
        if !self.ground.can_mount || self.has_full_disk {
            return None;
        }
        let path = self.hosts[2].state_dir().join("filler");
        self.has_full_disk = true;
        // It ends with what is meant: no space left.
        drop(fs::write(&path, vec![0; 2 << 20]));
        self.later(length, Undo::Empty(path));
        Some("disk full")
    }

    fn command(&mut self, event: Event) {
        match event {
            Event::Enqueue(host, number) => {
                let token = format!("token-{}", self.producers.len());
                let name = load::PRODUCED[pick(&mut Dice::new(number << 8), load::PRODUCED.len())];
                let mut words = vec!["enqueue", name];
                if number % 2 == 0 {
                    words.extend(["--unique-key", &token]);
                }
                let run = self.hosts[host].duly(words);
                self.producers.push((token, run.spawn()));
            }
            Event::Insert => {
                let inserted = self.s.database().try_sql(
                    "INSERT INTO duly_job (name, params, target_id) VALUES ('work', '[\"0.0\"]', 'sql')",
                );
                self.seen.inserted += u64::from(inserted);
            }
            Event::Cancel(host, number) => {
                let rows = self
                    .s
                    .database()
                    .try_rows("SELECT id FROM duly_job ORDER BY id DESC LIMIT 60")
                    .unwrap_or_default();
                let Some(id) = rows
                    .get(pick(&mut Dice::new(number << 8), rows.len().max(1)))
                    .and_then(|row| row[0].clone())
                else {
                    return;
                };
                self.seen.asked_to_cancel.insert(id.parse().unwrap());
                self.producers.push((String::new(), self.hosts[host].duly(["cancel", &id]).spawn()));
            }
            _ => {}
        }
    }

    /// Ends what was to last until now, or everything.
    fn undo_due(&mut self, is_over: bool) {
        let now = Instant::now();
        let (due, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.undo).into_iter().partition(|(until, _)| is_over || *until <= now);
        self.undo = Vec::new();
        for (until, undo) in still {
            match undo {
                Undo::ThawWhenOvertaken(tick, held) if oracle::is_overtaken(&self.s, &held) => {
                    self.figures.overtaken += 1;
                    self.thaw(tick);
                }
                other => self.undo.push((until, other)),
            }
        }
        for (_, undo) in due {
            match undo {
                Undo::Thaw(tick) | Undo::ThawWhenOvertaken(tick, _) => self.thaw(tick),
                Undo::Quicken(host) => drop(self.on_network(host, "", |proxy| proxy.delay(Duration::ZERO))),
                Undo::Answer(host) => drop(self.on_network(host, "", |proxy| proxy.swallow(false))),
                Undo::Unlock(session) => drop(session),
                Undo::Writable => self.ground.servers[0].administrator().sql("SET GLOBAL read_only = 0"),
                Undo::Empty(path) => {
                    fs::remove_file(path).unwrap();
                    self.has_full_disk = false;
                }
            }
        }
    }

    fn thaw(&mut self, mut tick: Running) {
        tick.signal_if_running(Signal::CONT);
        self.stopping.push(tick);
    }

    /// Ends the storm: no more faults, no more schedules, and what still runs comes to its end.
    fn calm_down(&mut self) {
        // Frozen ones stay so for as long as was planned, so that their leases end.
        wait_until("what was to last is over", Duration::from_secs(40), || {
            self.ticks.retain_mut(|tick| !tick.has_ended());
            // Somebody has to overtake those that are frozen.
            if !self.undo.is_empty() && self.ticks.len() < 2 {
                self.start();
            }
            self.undo_due(false);
            self.undo.is_empty()
        });
        for proxy in &self.proxies {
            proxy.calm();
        }
        for host in &self.hosts {
            host.set_jobs(&load::jobs(&host.state_dir().display().to_string(), false));
        }
        let (ticks, stopping) = (std::mem::take(&mut self.ticks), std::mem::take(&mut self.stopping));
        for mut tick in ticks.into_iter().chain(stopping) {
            // Those that know of schedules would go on for as long as there is something to do.
            tick.signal_if_running(Signal::TERM);
            self.stopping.push(tick);
        }
        for tick in self.stopping.drain(..) {
            let output = tick.wait_for(Duration::from_secs(60));
            if output.stderr.contains("panicked") {
                self.seen.wrong.push(format!("a runner panicked: {output}"));
            }
        }
        for (token, producer) in self.producers.drain(..) {
            let output = producer.wait_for(Duration::from_secs(90));
            self.seen.produced.push((
                token,
                output.status.code(),
                output.stdout.trim().to_owned(),
                output.stderr,
            ));
        }
    }

    /// Ticks on every host until nothing is open.
    fn drain(&mut self) {
        let open =
            "SELECT COUNT(*) FROM duly_job WHERE state NOT IN ('success', 'failed', 'cancelled', 'stale')";
        let began = Instant::now();
        let mut last = String::new();
        while self.s.database().value(open) != "0" {
            if began.elapsed() > Duration::from_secs(90) {
                let rows = self.s.database().rows("SELECT id, name, state, attempts, fence, owner, reason FROM duly_job WHERE state NOT IN ('success', 'failed', 'cancelled', 'stale')");
                self.seen.wrong.push(format!("never ended: {rows:?}\n{last}"));
                return;
            }
            last = self.tick_everywhere();
            oracle::look(&self.s, &mut self.seen);
        }
        // Others may have done all that a host had under way when its runner was killed: what is left there, it tidies up.
        self.tick_everywhere();
    }

    fn tick_everywhere(&self) -> String {
        let mut last = String::new();
        for host in &self.hosts {
            last = host.duly(["run"]).env("LOG", &self.log).env("DULY", program()).output().to_string();
        }
        last
    }
}
