package routes

// method is a known method's place in methods.
type method uint8

const otherMethod = method(len(methods) - 1)

// methods are those that routes are told apart by; any other reads OTHER, since
// clients can write what they like. The first is none.
var methods = [...]string{"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "OTHER"}

func methodOf(b []byte) method {
	switch string(b) {
	case "GET":
		return 1
	case "HEAD":
		return 2
	case "POST":
		return 3
	case "PUT":
		return 4
	case "PATCH":
		return 5
	case "DELETE":
		return 6
	case "OPTIONS":
		return 7
	case "CONNECT":
		return 8
	case "TRACE":
		return 9
	}
	return otherMethod
}
