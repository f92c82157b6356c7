//go:build unix

package main

import "syscall"

// maxConnections is how many connections may be open for logs: a quarter of the file
// descriptors stays for Kafka, the embedded broker's files and the administrator. More
// wait outside, in the kernel.
func maxConnections() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	const most = 1 << 20
	n := int(min(limit.Cur, most))
	return max(1, n-max(n/4, 64))
}
