//! What a number that Duly exits with promises to cron and to scripts.

/// The codes; a stop by a signal is 128 plus its number (130 for SIGINT, 143 for SIGTERM).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// 0: done, also when nothing was due.
    Success,
    /// 1: the tool itself could not work: database, files.
    Failure,
    /// 2: wrong usage or configuration; it will not go away by itself.
    Usage,
    /// 3: the tool worked, and a job ended badly.
    JobFailed,
    /// 4: refused, because one is already there.
    Refused,
    /// As monitoring plugins exit: 0 fine, 1 warning, 2 critical, 3 unknown.
    Plugin(u8),
    /// 128 + n: stopped by signal n, after stopping children and recording it.
    Signal(i32),
}

impl ExitCode {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::JobFailed => 3,
            Self::Refused => 4,
            Self::Plugin(code) => code,
            Self::Signal(number) => u8::try_from(128 + number).unwrap_or(u8::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExitCode;

    #[test]
    fn the_numbers_are_those_that_scripts_rely_on() {
        let codes = [
            ExitCode::Success,
            ExitCode::Failure,
            ExitCode::Usage,
            ExitCode::JobFailed,
            ExitCode::Refused,
            ExitCode::Plugin(2),
            ExitCode::Signal(2),
            ExitCode::Signal(15),
        ];
        assert_eq!(codes.map(ExitCode::code), [0, 1, 2, 3, 4, 2, 130, 143]);
    }
}
