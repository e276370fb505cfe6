// One program that is asked in every way. Whoever asks is told the region and the version that answered.
const { createServer } = require('node:http')
const net = require('node:net')
const { createSocket } = require('node:dgram')

const version = 'one'
const me = `${process.env.FLY_REGION} ${version}`

createServer((asked, answer) => answer.end(`${me} http\n`)).listen(8080)

// Speaks first, then says again what it hears.
const speaking = net
  .createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.write(`${me} tcp\n`)
    socket.pipe(socket)
  })
  .listen(9000)

net
  .createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.once('data', (chunk) => socket.end(`${me} ${String(chunk).split('\r\n')[0]}\n`))
  })
  .listen(9001)

const udp = createSocket('udp4')
udp.on('message', (message, from) => udp.send(`${me} ${from.address} ${message}`, from.port, from.address))
udp.bind(5060, 'fly-global-services')

process.on('SIGINT', () => {
  speaking.close()
  setTimeout(() => process.exit(0), 1000)
})
