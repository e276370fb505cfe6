// Does a piece of work each second, and finishes the one that it has begun before it ends.
let done = 0
let stopping = false

function work() {
  if (stopping) {
    console.log(`worker ends after ${done} pieces of work`)
    process.exit(0)
  }
  done++
  if (done % 10 === 1) console.log(`worker of ${process.env.FLY_REGION}: ${done} pieces of work`)
  setTimeout(work, 1000)
}

for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    stopping = true
  })
work()
