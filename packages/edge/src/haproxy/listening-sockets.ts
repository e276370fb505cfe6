import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import type { ProxyBind } from './render-config.ts'

/** As many connections as the kernel keeps for a HAProxy that is being started; it cuts this down to what it allows. */
const BACKLOG = 4096

/**
 * Binds all of them, hands their descriptors to `use`, and lets go of them: `use` must have given them to another process when it
 * returns. All of it happens before the event loop turns, so that no connection is accepted here.
 */
export async function withListening<T>(
  binds: readonly ProxyBind[],
  use: (descriptors: readonly number[]) => T,
): Promise<T> {
  const servers = binds.map(() => createServer())
  try {
    await Promise.all(
      servers.map(async (server, n) => {
        const bind = binds[n]
        if (bind === undefined) return
        server.listen({ host: bind.address, port: bind.port, backlog: BACKLOG })
        await once(server, 'listening')
      }),
    )
    return use(servers.map(descriptorOf))
  } finally {
    for (const server of servers) server.close()
  }
}

/** Node has no public name for it. */
function descriptorOf(server: Server): number {
  const { _handle: handle } = server as unknown as { readonly _handle?: { readonly fd?: number } }
  if (handle?.fd === undefined || handle.fd < 0) throw new Error('a socket without a descriptor')
  return handle.fd
}
