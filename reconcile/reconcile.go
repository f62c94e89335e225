// Package reconcile runs the reconcilers: what is declared at the API server goes to the scheduler, and what the scheduler
// knows of it goes back into statuses and events. Edge: talks to the API server.
package reconcile

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/app"
	"padis.io/padis/reconcile/balancer"
	"padis.io/padis/reconcile/cluster"
	"padis.io/padis/reconcile/gitops"

	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/config"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Scheduler is what the reconcilers need of the scheduler. All methods may be called at once from several goroutines;
// what they return is shared and must not be changed.
type Scheduler interface {
	// Want replaces what is wanted of one App. It returns when that is durable and shows in Wanted and Instances: an
	// instance that has to stop because of it is not shown as Running any more.
	Want(ctx context.Context, app *padisv1.WantedApp) error
	// Forget ends an App: its instances are stopped, its addresses given back, its records removed. It returns when that
	// is durable; Instances lists the instances until each has ended. Forgetting what was never wanted is no error.
	Forget(ctx context.Context, uid string) error
	// Declare replaces all that is declared for the cluster and returns when that is durable.
	Declare(ctx context.Context, c *padisv1.Cluster) error

	// Wanted is what is wanted of one App; nil if nothing is. What was forgotten is marked so until its last instance has
	// ended.
	Wanted(uid string) *padisv1.WantedApp
	// WantedApps lists all of it, forgotten Apps included.
	WantedApps() []*padisv1.WantedApp
	// WantedNamed lists those of a name: there may be several while those that were forgotten end.
	WantedNamed(namespace, name string) []*padisv1.WantedApp
	// Instances lists the instances of one App, in any phase.
	Instances(uid string) []*runtime.Instance
	// Usage counts the addresses of a pool; zeros for a pool that is not in force.
	Usage(pool string) runtime.PoolUsage
	// Addresses lists the leases of a pool, in force or not, by address, also those that are cooling.
	Addresses(pool string) []*runtime.Address
	// NetworkStates says how networks fare on the hosts that have them, by network.
	NetworkStates() map[string][]runtime.HostNetworkState
	// Foreign lists the addresses of pools that somebody uses who does not hold them.
	Foreign() []runtime.ForeignAddress
	// PrepullStates says of each agent that shall have the images of an ImagePrepull what became of each.
	PrepullStates(namespace, name string) []runtime.AgentImage
	// UpgradeStatus says how far the replacement of executors is.
	UpgradeStatus() runtime.Upgrade

	// WantBalancer replaces what is wanted of one LoadBalancer, but its directors, which are the App of the same uid. It
	// returns when that is durable and shows in Balancer.
	WantBalancer(ctx context.Context, b *padisv1.WantedBalancer) error
	// ForgetBalancer ends a LoadBalancer: its VIPs are given back once nobody has them any more. It returns when that is
	// durable. Forgetting what was never wanted is no error.
	ForgetBalancer(ctx context.Context, uid string) error
	// Balancer is what is wanted of one LoadBalancer; nil if nothing is. What was forgotten is marked so until it has ended.
	Balancer(uid string) *padisv1.WantedBalancer
	// Balancers lists all of it.
	Balancers() []*padisv1.WantedBalancer
	// Balance says how it stands with a LoadBalancer; nil before anything was decided.
	Balance(uid string) *runtime.Balance

	// OnChange has f called whenever instances or addresses of an App changed, or how it stands with a LoadBalancer, until
	// ctx ends. f returns at once.
	OnChange(ctx context.Context, f func(namespace, app, uid string))
}

const (
	// Requests to the API server, per second and at once: it is in this very process.
	qps, burst = 500, 1000
	// workers is how many Apps, or LoadBalancers, are reconciled at the same time.
	workers = 4
	// stopWithin is how long running reconciles may take to end.
	stopWithin = 5 * time.Second
	// eventBurst and eventRate bound the events of one App, at once and per second; beyond it they are counted, not written.
	eventBurst, eventRate = 50, 0.2
	lastApplied           = corev1.LastAppliedConfigAnnotation
)

// Start runs the reconcilers until ctx ends. The CRDs of padis.io must be served already. It returns nil when ctx ended,
// and an error when they cannot run. There is no leader election: of several processes only the one whose epoch is in
// the ledger can make anything durable. No metrics are served.
func Start(ctx context.Context, cfg *rest.Config, sched Scheduler, logger *zap.Logger) error {
	return start(ctx, cfg, sched, nil, logger)
}

// StartWithGit does the same, and keeps what is declared in git in force.
func StartWithGit(ctx context.Context, cfg *rest.Config, sched Scheduler, git gitops.Config, logger *zap.Logger) error {
	return start(ctx, cfg, sched, &git, logger)
}

func start(ctx context.Context, cfg *rest.Config, sched Scheduler, git *gitops.Config, logger *zap.Logger) error {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Burst = qps, burst
	// Custom resources are JSON only, and our Events are not many.
	cfg.ContentType, cfg.AcceptContentTypes = apiruntime.ContentTypeJSON, apiruntime.ContentTypeJSON

	scheme := apiruntime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("reconcilers: %w", err)
	}
	logr := zapr.NewLogger(logger)
	ctrllog.SetLogger(logr)
	yes, grace := true, stopWithin
	mgr, err := manager.New(cfg, manager.Options{
		Scheme:                  scheme,
		Logger:                  logr,
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		GracefulShutdownTimeout: &grace,
		BaseContext:             func() context.Context { return ctx },
		Cache:                   ctrlcache.Options{DefaultTransform: slim},
		Controller: config.Controller{
			// Tests and restarts within one process make the same controllers again.
			SkipNameValidation: &yes,
		},
	})
	if err != nil {
		return fmt.Errorf("reconcilers: %w", err)
	}

	events, stopEvents, err := recorder(cfg, scheme)
	if err != nil {
		return err
	}
	defer stopEvents()

	declarer := cluster.NewDeclarer(mgr.GetAPIReader(), sched, logger.Named("cluster"))
	clusters := cluster.NewReconciler(mgr.GetClient(), declarer, time.Now, logger.Named("cluster"))
	apps := app.New(mgr.GetClient(), mgr.GetAPIReader(), sched, declarer, events, time.Now, logger.Named("app"))
	if err := watchCluster(mgr, clusters, sched); err != nil {
		return fmt.Errorf("reconcilers: watch the cluster's kinds: %w", err)
	}
	if err := watchApps(ctx, mgr, apps, sched, declarer, logger); err != nil {
		return fmt.Errorf("reconcilers: watch apps: %w", err)
	}
	balancers := balancer.New(mgr.GetClient(), mgr.GetAPIReader(), sched, declarer, events, seed, time.Now, logger.Named("balancer"))
	if err := watchBalancers(mgr, balancers, sched, declarer, logger); err != nil {
		return fmt.Errorf("reconcilers: watch loadbalancers: %w", err)
	}
	if git != nil {
		if err := gitops.Add(mgr, *git, events, logger.Named("gitops")); err != nil {
			return fmt.Errorf("reconcilers: %w", err)
		}
	}
	if err := mgr.Start(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("reconcilers: %w", err)
	}
	return nil
}

// seed enters the hash of a LoadBalancer's flows: clients that could guess it could crowd one real server.
func seed() uint64 {
	var b [8]byte
	// It never fails: it ends the program rather.
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// slim drops from cached objects what no reconciler reads and what may be larger than all the rest.
func slim(o any) (any, error) {
	m, err := meta.Accessor(o)
	if err != nil {
		return o, nil //nolint:nilerr // a tombstone: it is dropped next
	}
	m.SetManagedFields(nil)
	if a := m.GetAnnotations(); a[lastApplied] != "" {
		delete(a, lastApplied)
		m.SetAnnotations(a)
	}
	return o, nil
}

// recorder writes events of core/v1, which is the only group of events that is served.
func recorder(cfg *rest.Config, scheme *apiruntime.Scheme) (record.EventRecorder, func(), error) {
	core, err := typedcorev1.NewForConfig(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("reconcilers: events: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithCorrelatorOptions(record.CorrelatorOptions{BurstSize: eventBurst, QPS: eventRate}))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: core.Events("")})
	return broadcaster.NewRecorder(scheme, corev1.EventSource{Component: "padis"}), broadcaster.Shutdown, nil
}
