//! Plan files of the tests of the host plane: all are of one shop, and each says only what matters
//! to it.

/// The plan `shop` of the zone `corp.example.` with the rest of its `spec`.
macro_rules! shop {
    ($($rest:expr),+) => {
        concat!(
            "
apiVersion: crossfade.dev/v1alpha1
kind: CutoverPlan
metadata: { name: shop }
spec:
  zones: [{ name: corp.example. }]
",
            $($rest),+
        )
    };
}

/// Its service `orders` at 192.0.2.10, port 8080, legacy at 10.30.0.2, target at 10.40.0.2.
macro_rules! orders {
    () => {
        "    - name: orders
      hosts: [orders.corp.example]
      address: 192.0.2.10
      ports: [{ name: http, port: 8080, protocol: tcp }]
      legacy: { endpoints: [10.30.0.2] }
      target: { endpoints: [10.40.0.2] }
"
    };
}

pub(super) use {orders, shop};
