module drain

go 1.26.0

require github.com/influxdata/go-syslog/v3 v3.0.0

require github.com/stretchr/testify v1.8.1 // indirect
