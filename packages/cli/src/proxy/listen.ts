import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { drained } from '@roost/base'
import { Failure } from '../failure/failure.ts'
import type { Tunnel } from './tunnel.ts'

const CONNECTIONS_MAX = 512

/** Carries each connection to this port through the tunnel; each direction ends by itself. */
export async function listenFor(
  at: { readonly address: string; readonly port: number },
  tunnel: Tunnel,
  warn: (text: string) => void,
): Promise<{ readonly address: string; readonly port: number; close(): Promise<void> }> {
  const open = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    open.add(socket)
    socket.setNoDelay(true)
    socket.on('error', () => {})
    socket.once('close', () => open.delete(socket))
    carry(socket, tunnel).catch((error: unknown) => {
      socket.destroy()
      warn(`a connection failed: ${error instanceof Error ? error.message : String(error)}`)
    })
  })
  server.maxConnections = CONNECTIONS_MAX
  server.listen(at.port, at.address)
  try {
    await once(server, 'listening')
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    const taken = code === 'EADDRINUSE'
    throw new Failure(`${at.address}:${at.port} can't be listened on`, {
      why: taken ? 'another program listens there' : String((cause as Error).message),
      fix: taken ? `roost proxy 0:REMOTE   # takes a free port` : [],
      cause,
    })
  }
  const { address, port } = server.address() as AddressInfo
  return {
    address,
    port,
    async close() {
      server.close()
      for (const socket of open) socket.destroy()
      if (server.listening) await once(server, 'close')
    },
  }
}

async function carry(socket: Socket, tunnel: Tunnel): Promise<void> {
  const { stream, forget } = await tunnel.connect()
  socket.once('close', (failed) => {
    if (failed) stream.reset('the client broke off')
  })
  try {
    await Promise.all([
      (async () => {
        for await (const chunk of socket) await stream.write(chunk as Buffer)
        await stream.end()
      })(),
      (async () => {
        for await (const bytes of stream.bytes) if (!socket.write(bytes)) await drained(socket)
        socket.end()
      })(),
    ])
  } catch (error) {
    stream.reset('the client broke off')
    throw error
  } finally {
    forget()
  }
}
