use super::*;

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xf-glass-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn act(&self, act: Act, service: Option<&str>) -> Glass {
        let service = service.map(|text| text.parse().unwrap());
        append(&self.0, act, service.as_ref(), "uid:7", "why", Timestamp::from_millis(5)).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn services(glass: &Glass) -> Vec<String> {
    glass.force.iter().map(Force::subject).collect()
}

#[test]
fn what_is_in_force_follows_from_the_acts() {
    let scratch = Scratch::new("acts");
    assert_eq!(services(&read(&scratch.0).unwrap()), [""; 0]);
    let steps = [
        (Act::Rollback, Some("shop/orders"), vec!["shop/orders"]),
        (Act::Rollback, Some("shop/orders"), vec!["shop/orders"]),
        (Act::Rollback, Some("shop/payments"), vec!["shop/orders", "shop/payments"]),
        (Act::Undo, Some("shop/orders"), vec!["shop/payments"]),
        (Act::Rollback, None, vec!["shop/payments", "*"]),
        (Act::Dissolved, Some("shop/payments"), vec!["*"]),
        (Act::Undo, None, vec![]),
    ];
    for (act, service, expected) in steps {
        // What a command puts in the kernel before it writes is what will be written.
        let named = service.map(|text| text.parse().unwrap());
        let deed = Deed { act, service: named, by: "uid:7", reason: "why" };
        let before = read(&scratch.0).unwrap();
        let foretold = before.after(&[deed], Timestamp::from_millis(5));
        let glass = scratch.act(act, service);
        assert_eq!(services(&glass), expected, "{act:?} {service:?}");
        assert_eq!(foretold.force, glass.force);
        assert!(!glass.is_more_than(&foretold));
        assert_eq!(glass.is_more_than(&before), glass.force.len() > before.force.len());
        assert!(glass.problems.is_empty(), "{:?}", glass.problems);
    }
    assert_eq!(read(&scratch.0).unwrap().seq, 7);
}

/// Any changed byte is told, and what is whole goes on counting.
#[test]
fn edits_of_the_log_are_found_and_a_torn_line_does_not_stop_the_next() {
    let scratch = Scratch::new("edits");
    scratch.act(Act::Rollback, Some("shop/orders"));
    scratch.act(Act::Rollback, Some("shop/payments"));
    let path = scratch.0.join(FILE);
    let good = std::fs::read_to_string(&path).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 0x02;
        std::fs::write(&path, &bytes).unwrap();
        let glass = read(&scratch.0).unwrap();
        let told = !glass.problems.is_empty() || glass.torn;
        assert!(told, "byte {at} of\n{good}");
    }
    let without_first = good.lines().nth(1).unwrap().to_owned() + "\n";
    std::fs::write(&path, without_first).unwrap();
    let glass = read(&scratch.0).unwrap();
    assert_eq!((services(&glass), glass.problems.len()), (vec!["shop/payments".to_owned()], 1));

    std::fs::write(&path, good.get(..good.len() - 9).unwrap()).unwrap();
    let glass = scratch.act(Act::Rollback, None);
    assert_eq!(services(&glass), ["shop/orders", "*"]);
    assert_eq!(glass.problems, ["line 2 is damaged"]);
}

/// What stands in the place of the log keeps nobody waiting.
#[test]
fn a_pipe_is_no_log() {
    let scratch = Scratch::new("pipe");
    nix::unistd::mkfifo(&scratch.0.join(FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for error in [read(&scratch.0).unwrap_err(), Log::open(&scratch.0).unwrap_err()] {
        assert!(chain(&error).contains("no regular file"), "{error}");
    }
}
