//go:build !unix

package main

import "io"

// unread is false: the system does not say it before the next write.
func unread(io.Writer) bool { return false }
