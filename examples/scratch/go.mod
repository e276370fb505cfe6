module scratch

go 1.19
