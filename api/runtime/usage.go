package runtime

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Usage is what one running instance uses; it is called as the instance is. It is asked of the host when it is read, and
// kept nowhere.
//
// +kubebuilder:object:root=true
type Usage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Status            UsageStatus `json:"status"`
}

// UsageStatus are the amounts. Those in bytes, but of memory, count from the start of the instance.
type UsageStatus struct {
	App  string `json:"app"`
	Host string `json:"host,omitempty"`
	// Use of CPU of late, in thousandths of a CPU.
	CPUMilli         int64 `json:"cpuMilli"`
	MemoryBytes      int64 `json:"memoryBytes"`
	MemoryLimitBytes int64 `json:"memoryLimitBytes,omitempty"`
	// What its network interfaces received and sent.
	RxBytes int64 `json:"rxBytes"`
	TxBytes int64 `json:"txBytes"`
	// What it read from and wrote to block devices.
	ReadBytes  int64 `json:"readBytes"`
	WriteBytes int64 `json:"writeBytes"`
	Processes  int64 `json:"processes"`
	// TCP connections that are established, and sockets that listen.
	TCPEstablished int64 `json:"tcpEstablished"`
	TCPListen      int64 `json:"tcpListen"`
	// How often the kernel ended a process of it for want of memory.
	OOMKills int64 `json:"oomKills"`
}

// UsageList is a list of Usages.
//
// +kubebuilder:object:root=true
type UsageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Usage `json:"items"`
	// Unreachable are the hosts that did not answer, with why: their instances are missing.
	Unreachable map[string]string `json:"unreachable,omitempty"`
}
