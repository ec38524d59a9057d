// Command crictl is that of Kubernetes, for tests.
package main

import crictl "sigs.k8s.io/cri-tools/cmd/crictl"

func main() { crictl.Main() }
