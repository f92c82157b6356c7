//go:build !race

package routes

const raced = false
