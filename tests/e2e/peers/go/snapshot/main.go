// Command snapshot serves go-control-plane's snapshot cache, to measure beside Crossfade.
//
//	snapshot [-services N]
//
// It prints "xds HOST:PORT" and "http HOST:PORT". Every node sees the one snapshot: two clusters, two
// endpoint sets and a route for each service. GET /names is what there is, by type;
// POST /shift?service=K&target=W gives the target of service K the weight W of 10 000 and answers
// once SetSnapshot has returned.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	total = 10_000
	group = "all"
)

// everybody is the hash of nodes: one snapshot for all of them.
type everybody struct{}

func (everybody) ID(*core.Node) string { return group }

// world is what the snapshot is made of.
type world struct {
	sync.Mutex
	version   int
	clusters  []types.Resource
	endpoints []types.Resource
	routes    []types.Resource
	cache     cache.SnapshotCache
}

func name(service int, side string) string { return fmt.Sprintf("bench/w%d/http/%s", service, side) }

func routeName(service int) string { return fmt.Sprintf("bench/w%d/http", service) }

func newWorld(services int) *world {
	w := &world{cache: cache.NewSnapshotCache(true, everybody{}, nil)}
	for k := range services {
		for s, side := range []string{"legacy", "target"} {
			w.clusters = append(w.clusters, newCluster(name(k, side)))
			w.endpoints = append(w.endpoints, newEndpoints(name(k, side), k, s))
		}
		w.routes = append(w.routes, newRoute(k, 100))
	}
	return w
}

func newCluster(name string) *cluster.Cluster {
	ads := &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
	return &cluster.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(5_000_000_000),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads, ServiceName: name},
	}
}

func newEndpoints(name string, service, side int) *endpoint.ClusterLoadAssignment {
	var found []*endpoint.LbEndpoint
	for n := 1; n <= 2; n++ {
		socket := &core.SocketAddress{
			Address:       fmt.Sprintf("10.%d.%d.%d", 2*side+n, service>>8, service&255),
			PortSpecifier: &core.SocketAddress_PortValue{PortValue: 8080},
		}
		address := &core.Address{Address: &core.Address_SocketAddress{SocketAddress: socket}}
		host := &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{Address: address}}
		found = append(found, &endpoint.LbEndpoint{HostIdentifier: host})
	}
	locality := &endpoint.LocalityLbEndpoints{Locality: &core.Locality{}, LbEndpoints: found}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{locality},
	}
}

func newRoute(service int, target uint32) *route.RouteConfiguration {
	weight := func(side string, weight uint32) *route.WeightedCluster_ClusterWeight {
		return &route.WeightedCluster_ClusterWeight{
			Name: name(service, side), Weight: wrapperspb.UInt32(weight),
		}
	}
	both := []*route.WeightedCluster_ClusterWeight{
		weight("target", target), weight("legacy", total-target),
	}
	action := &route.RouteAction{ClusterSpecifier: &route.RouteAction_WeightedClusters{
		WeightedClusters: &route.WeightedCluster{Clusters: both},
	}}
	all := &route.RouteMatch{PathSpecifier: &route.RouteMatch_Prefix{Prefix: "/"}}
	return &route.RouteConfiguration{
		Name: routeName(service),
		VirtualHosts: []*route.VirtualHost{{
			Name:    "all",
			Domains: []string{"*"},
			Routes:  []*route.Route{{Match: all, Action: &route.Route_Route{Route: action}}},
		}},
	}
}

// publish makes the snapshot that everybody sees from now on.
func (w *world) publish() error {
	w.version++
	snapshot, err := cache.NewSnapshot(strconv.Itoa(w.version), map[resource.Type][]types.Resource{
		resource.ClusterType: w.clusters, resource.EndpointType: w.endpoints, resource.RouteType: w.routes,
	})
	if err != nil {
		return err
	}
	return w.cache.SetSnapshot(context.Background(), group, snapshot)
}

func (w *world) shift(answer http.ResponseWriter, asked *http.Request) {
	service, bad := strconv.Atoi(asked.FormValue("service"))
	target, worse := strconv.ParseUint(asked.FormValue("target"), 10, 32)
	if bad != nil || worse != nil || service < 0 || service >= len(w.routes) || target > total {
		http.Error(answer, "service and target are numbers", http.StatusBadRequest)
		return
	}
	w.Lock()
	defer w.Unlock()
	routes := append([]types.Resource{}, w.routes...)
	routes[service] = newRoute(service, uint32(target))
	w.routes = routes
	if err := w.publish(); err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
	}
}

func (w *world) names(answer http.ResponseWriter, _ *http.Request) {
	of := func(resources []types.Resource) (names []string) {
		for _, one := range resources {
			names = append(names, cache.GetResourceName(one))
		}
		return names
	}
	_ = json.NewEncoder(answer).Encode(map[string][]string{
		resource.ClusterType: of(w.clusters), resource.EndpointType: of(w.endpoints), resource.RouteType: of(w.routes),
	})
}

func listen(kind string) net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s\n", kind, listener.Addr())
	return listener
}

func main() {
	services := flag.Int("services", 50, "how many services the snapshot has")
	flag.Parse()
	w := newWorld(*services)
	if err := w.publish(); err != nil {
		log.Fatal(err)
	}
	machines := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(machines, server.NewServer(context.Background(), w.cache, nil))
	go func() { log.Fatal(machines.Serve(listen("xds"))) }()
	http.HandleFunc("POST /shift", w.shift)
	http.HandleFunc("GET /names", w.names)
	log.Fatal(http.Serve(listen("http"), nil))
}
