use plan::Token;
use xds::Version;

use super::*;

fn token(revision: u64) -> Token {
    Token { incarnation: 1, revision }
}

fn held(type_url: &str, through: u64, items: &[(&str, u64, &[u8])]) -> Arc<Held> {
    let item = |(name, since, body): &(&str, u64, &[u8])| {
        let version = Version::of(token(*since), body);
        (Name::new(name), Item { version, body: body.to_vec().into() })
    };
    Arc::new(Held {
        type_url: type_url.into(),
        through: token(through),
        resources: items.iter().map(item).collect(),
    })
}

#[test]
fn what_is_held_is_served_as_it_came() {
    let mut served = Served::nothing();
    served.take(&Arc::new(Held::nothing(TypeUrl::CLUSTER.into())));
    let table =
        |served: &Served, kind: &str| served.tables().table(&SCOPE.into(), &kind.into()).cloned();
    assert!(table(&served, TypeUrl::CLUSTER).is_none(), "nothing was ever taken");

    let target = "shop/orders/http/target";
    served.take(&held(TypeUrl::CLUSTER, 4, &[(target, 3, b"c"), ("x", 4, b"x")]));
    // Field 1, text: what the route sends to.
    let body: Vec<u8> = [&[0x0a, 23][..], target.as_bytes()].concat();
    served.take(&held(TypeUrl::ROUTES, 9, &[("gateway/8080", 9, &body)]));
    assert_eq!(served.tables().token(), token(9));
    let route = table(&served, TypeUrl::ROUTES).unwrap();
    let route = route.get("gateway/8080").unwrap();
    assert_eq!(*route.version(), Version::of(token(9), &body));
    assert_eq!(route.encoded.body().as_ref(), body);
    assert_eq!(route.needs.as_ref(), [Name::new(target)]);
    let plans: Vec<&str> = route.plans.iter().map(PlanName::as_str).collect();
    assert_eq!(plans, ["shop"]);

    // What is older in another type does not take the tables back, and what has gone goes.
    served.take(&held(TypeUrl::CLUSTER, 5, &[(target, 3, b"c")]));
    assert_eq!(served.tables().token(), token(9));
    let clusters = table(&served, TypeUrl::CLUSTER).unwrap();
    assert_eq!((clusters.len(), clusters.get("x").is_some()), (1, false));
}
