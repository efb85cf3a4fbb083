//! A database with a `jobs.yaml` of its own, on which jobs are put in, drained, and claimed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use duly::config::DatabaseUrl;

use super::{claims, run, timed};

/// Where the program is run, and on what.
pub(crate) struct Ground {
    pub(crate) folder: PathBuf,
    pub(crate) url: String,
}

impl Ground {
    /// The program as it is installed: a copy, which stands in the page cache in larger pieces than what the linker has written.
    fn program(&self) -> &'static Path {
        static COPY: OnceLock<PathBuf> = OnceLock::new();
        COPY.get_or_init(|| {
            let copy = self.folder.join("duly");
            fs::copy(env!("CARGO_BIN_EXE_duly"), &copy).unwrap();
            copy
        })
    }

    /// A folder with these definitions, and the tables made.
    pub(crate) fn new(folder: PathBuf, url: &str, jobs: &str) -> Self {
        let ground = Self { folder, url: url.to_owned() };
        ground.write_jobs(jobs);
        run(ground.duly(&["migrate"]));
        ground
    }

    /// `jobs.yaml` with a state folder in memory, as `/run` is.
    pub(crate) fn write_jobs(&self, jobs: &str) {
        let digest = duly::job::fnv1a(self.folder.as_os_str().as_encoded_bytes());
        let name = format!("duly-bench-{}-{digest:x}", std::process::id());
        fs::create_dir_all(&self.folder).unwrap();
        let path = self.folder.join("jobs.yaml");
        let url = &self.url;
        let text =
            format!("database: {url}\nrunner: {{state_dir: /dev/shm/{name}, concurrency: 2}}\njobs:\n{jobs}");
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub(crate) fn duly(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.args(arguments).current_dir(&self.folder);
        command.env_remove("DULY_CONFIG").env_remove("DATABASE_URL");
        command
    }

    /// Puts pending jobs `hello` in.
    pub(crate) fn put_in(&self, jobs: usize) {
        let path = self.folder.join("batch");
        fs::write(&path, "{\"name\": \"hello\"}\n".repeat(jobs)).unwrap();
        run(self.duly(&["enqueue", "--batch", path.to_str().unwrap()]));
    }

    /// Jobs a second of one run, two at once, that executes so many.
    pub(crate) fn drained(&self, jobs: usize) -> f64 {
        self.put_in(jobs);
        jobs as f64 / timed(&mut self.duly(&["run", "--concurrency", "2"])).as_secs_f64()
    }

    /// Jobs a second that so many claimers claim and finish without processes.
    pub(crate) fn claimed(&self, claimers: usize, jobs: usize) -> f64 {
        self.put_in(jobs);
        let database = DatabaseUrl::parse(&self.url, &self.folder).unwrap();
        let location = duly::runner::location(&database);
        let done = claims::run(&location, claimers, jobs);
        assert_eq!((done.jobs, done.errors), (jobs, 0), "every job is claimed and finished once");
        jobs as f64 / done.taken.as_secs_f64()
    }
}
