//! Services that every gRPC server has: health and reflection.

use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::service::RoutesBuilder;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::server::paths;

/// The descriptors of our own messages cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the descriptors of the services cannot be read")]
pub struct RoutesError(#[source] tonic_reflection::server::Error);

/// Health (`grpc.health.v1`) and reflection (`grpc.reflection.v1` and `v1alpha`), to which other
/// services are added with [`serving`]. The whole server (service `""`) and aggregated discovery
/// are serving; the reporter changes that.
///
/// # Errors
/// The descriptors cannot be read, which is an error of the build.
pub async fn standard_routes() -> Result<(RoutesBuilder, HealthReporter), RoutesError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    for name in ["", paths::ADS] {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::builder();
    routes
        .add_service(health)
        .add_service(reflection().build_v1().map_err(RoutesError)?)
        .add_service(reflection().build_v1alpha().map_err(RoutesError)?);
    Ok((routes, reporter))
}

/// Health says from now on that this service, by its own name, is serving.
pub async fn serving<S: NamedService>(reporter: &HealthReporter, _: &S) {
    reporter.set_serving::<S>().await;
}
