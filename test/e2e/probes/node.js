
// Appended to a program: ticks, and tells somebody outside over one connection, which is never opened again.
import('node:net').then(({ connect }) => {
  const [host, port] = process.env.PROBE_AT.split(':')
  const state = { ticks: 0, heard: 0 }
  const link = connect({ host, port: Number(port) }, () => {
    link.write(`who ${process.env.FLY_MACHINE_ID}\n`)
    setInterval(() => {
      state.ticks++
      const now = [Date.now(), Math.round(performance.now())]
      link.write(`${[state.ticks, ...now, state.heard].join(' ')}\n`)
    }, 100)
  })
  link.on('data', (data) => {
    state.heard += data.length
  })
  link.on('error', (error) => console.log(`probe: ${error.message}`))
})
