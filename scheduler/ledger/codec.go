package ledger

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// format is the first byte of each value: a protobuf message follows. It changes only if that ever ceases to be so;
// new fields do not change it. As a protobuf tag it would be field 0, which does not exist, so that a value without it
// is noticed.
const format = 0x01

// encode serialises a record.
func encode(key string, m proto.Message) (string, error) {
	if err := identify(key, m); err != nil {
		return "", fmt.Errorf("ledger: write %s: %w", key, err)
	}
	b, err := padisv1.Encode(protoadapt.MessageV1Of(m))
	if err != nil {
		return "", fmt.Errorf("ledger: write %s: %w", key, err)
	}
	return string(append([]byte{format}, b...)), nil
}

// decode reads the value of a key, which is relative to the prefix, into the snapshot. The errors are ErrCorrupt.
//
// What the record says of itself must agree with its key: so a value that was damaged, or put under a wrong key by
// hand, does not become an instance or a lease that nobody has decided.
func decode(into *record.Snapshot, key string, value []byte) error {
	m, err := message(key)
	if err != nil {
		return fmt.Errorf("%w: %w; it may be of a newer version of Padis: run that version, or delete the key", ErrCorrupt, err)
	}
	if err := decodeValue(value, key, m); err != nil {
		return fmt.Errorf("%w: %w; restore etcd from a backup, or delete the key: then what it records is forgotten", ErrCorrupt, err)
	}
	switch m := m.(type) {
	case *padisv1.FrameworkRecord:
		into.Framework = m
	case *padisv1.Cluster:
		into.Cluster = m
	case *padisv1.WantedApp:
		into.Apps = append(into.Apps, m)
	case *padisv1.InstanceRecord:
		into.Instances = append(into.Instances, m)
	case *padisv1.LeaseRecord:
		into.Leases = append(into.Leases, m)
	case *padisv1.ExecutorRecord:
		into.Executors = append(into.Executors, m)
	case *padisv1.AgentRecord:
		into.Agents = append(into.Agents, m)
	case *padisv1.WantedBalancer:
		into.Balancers = append(into.Balancers, m)
	case *padisv1.BalanceRecord:
		into.Balances = append(into.Balances, m)
	}
	return nil
}

func decodeValue(value []byte, key string, m proto.Message) error {
	if len(value) == 0 {
		return errors.New("the value is empty")
	}
	if value[0] != format {
		return fmt.Errorf("the value has format %d, and this version knows %d only", value[0], format)
	}
	if err := padisv1.Decode(value[1:], protoadapt.MessageV1Of(m)); err != nil {
		return err
	}
	return identify(key, m)
}

// message makes the empty message that belongs under a key.
func message(key string) (proto.Message, error) {
	switch {
	case key == record.KeyFramework:
		return &padisv1.FrameworkRecord{}, nil
	case key == record.KeyCluster:
		return &padisv1.Cluster{}, nil
	case strings.HasPrefix(key, record.PrefixApp):
		return &padisv1.WantedApp{}, nil
	case strings.HasPrefix(key, record.PrefixInstance):
		return &padisv1.InstanceRecord{}, nil
	case strings.HasPrefix(key, record.PrefixLease):
		return &padisv1.LeaseRecord{}, nil
	case strings.HasPrefix(key, record.PrefixExecutor):
		return &padisv1.ExecutorRecord{}, nil
	case strings.HasPrefix(key, record.PrefixAgent):
		return &padisv1.AgentRecord{}, nil
	case strings.HasPrefix(key, record.PrefixBalancer):
		return &padisv1.WantedBalancer{}, nil
	case strings.HasPrefix(key, record.PrefixBalance):
		return &padisv1.BalanceRecord{}, nil
	}
	return nil, errors.New("the key is not known")
}

// identify compares a record with its key.
func identify(key string, m proto.Message) error {
	var want string
	switch m := m.(type) {
	case *padisv1.FrameworkRecord:
		want = record.KeyFramework
	case *padisv1.Cluster:
		want = record.KeyCluster
	case *padisv1.WantedApp:
		want = record.AppKey(m.GetUid())
	case *padisv1.InstanceRecord:
		want = record.InstanceKey(slot(m))
	case *padisv1.LeaseRecord:
		want = record.LeaseKey(m.GetNetwork(), m.GetAddress())
	case *padisv1.ExecutorRecord:
		want = record.ExecutorKey(m.GetAgentId())
	case *padisv1.AgentRecord:
		want = record.AgentKey(m.GetAgentId())
	case *padisv1.WantedBalancer:
		want = record.BalancerKey(m.GetUid())
	case *padisv1.BalanceRecord:
		want = record.BalanceKey(m.GetUid())
	default:
		return fmt.Errorf("a %T is not a record", m)
	}
	if key != want {
		return fmt.Errorf("the record is that of %s", strconv.Quote(want))
	}
	return nil
}

func slot(m interface {
	GetAppUid() string
	GetSlot() int32
}) record.Slot {
	return record.Slot{AppUID: m.GetAppUid(), Index: m.GetSlot()}
}
