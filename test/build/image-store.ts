import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { systemClock } from '@roost/base'
import { registryArgv, registryConfig } from '../../packages/cli/src/host/registry.ts'
import { registryToken } from '../../packages/server/src/http/registry-token.ts'
import {
  openRegistryTokens,
  type RegistryTokens,
} from '../../packages/server/src/registry/registry-tokens.ts'

/** A real image store with a real token service before it, on one address of this machine. */
export interface ImageStore {
  readonly url: string
  readonly apiUrl: string
  readonly ca: string
  readonly tokens: RegistryTokens
  readonly logFile: string
  close(): Promise<void>
}

export const ADMIN = 'administrators-token'
export const SHOP_OWNER = 'shop-owners-token'

export async function raiseImageStore(dir: string, address: string): Promise<ImageStore> {
  mkdirSync(dir, { recursive: true })
  const { ca, certificate, key } = makeCertificates(dir, address)
  const tokenBundle = join(dir, 'bundle.pem')
  const tokens = await openRegistryTokens({
    dataDir: dir,
    bundleFile: tokenBundle,
    clock: systemClock,
  })

  const api = createServer(
    { key: readFileSync(key), cert: readFileSync(certificate) },
    (request, reply) => {
      const url = new URL(request.url ?? '/', 'https://api')
      const deps = {
        tokens,
        clock: systemClock,
        authenticate: async (token: string) => {
          if (token === ADMIN) return { name: 'admin', may: () => true }
          if (token === SHOP_OWNER)
            return { name: 'owner', may: (_: unknown, app: unknown) => app === 'shop' }
          return null
        },
      }
      void registryToken(deps, {
        authorization: request.headers.authorization,
        scope: url.searchParams.getAll('scope'),
      }).then((answer) => {
        if (answer !== null) return reply.end(JSON.stringify(answer))
        return reply.writeHead(401, { 'www-authenticate': 'Basic realm="roost"' }).end()
      })
    },
  )
  api.listen(0, address)
  await once(api, 'listening')
  const apiUrl = `https://${address}:${(api.address() as AddressInfo).port}`

  const port = await freePort(address)
  const configFile = join(dir, 'registry.yml')
  writeFileSync(
    configFile,
    registryConfig({
      address,
      port,
      dataDir: join(dir, 'blobs'),
      certificate,
      key,
      tokenBundle,
      apiUrl,
    }),
  )
  const logFile = join(dir, 'registry.log')
  const registry = await startRegistry(configFile, logFile, address, port)
  return {
    url: `https://${address}:${port}`,
    apiUrl,
    ca: readFileSync(ca, 'utf8'),
    tokens,
    logFile,
    async close() {
      await endProcess(registry)
      api.closeAllConnections()
      await new Promise((resolve) => api.close(resolve))
    },
  }
}

/** One that anybody may read and write, as an upstream. */
export async function raiseOpenRegistry(dir: string, address: string) {
  mkdirSync(dir, { recursive: true })
  const port = await freePort(address)
  const configFile = join(dir, 'registry.yml')
  const storage = { filesystem: { rootdirectory: join(dir, 'blobs') } }
  const config = { version: '0.1', storage, http: { addr: `${address}:${port}` } }
  writeFileSync(configFile, JSON.stringify(config))
  const registry = await startRegistry(configFile, join(dir, 'registry.log'), address, port)
  return { url: `http://${address}:${port}`, close: () => endProcess(registry) }
}

async function startRegistry(
  configFile: string,
  logFile: string,
  address: string,
  port: number,
): Promise<ChildProcess> {
  const log = openSync(logFile, 'a')
  const [program, ...args] = registryArgv(configFile)
  const registry = spawn(program, args, { stdio: ['ignore', log, log] })
  closeSync(log)
  await answers(address, port, registry)
  return registry
}

async function endProcess(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit')
  child.kill('SIGKILL')
  await ended
}

function makeCertificates(dir: string, address: string) {
  const path = (name: string) => join(dir, name)
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-subj',
    '/CN=authority',
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
  )
  openssl('req', ...newKey, '-subj', '/CN=server', '-keyout', 'server.key', '-out', 'server.csr')
  writeFileSync(path('san'), `subjectAltName=IP:${address}\n`)
  openssl(
    ...['x509', '-req', '-in', 'server.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key'],
    ...['-CAcreateserial', '-days', '2', '-extfile', 'san', '-out', 'server.pem'],
  )
  return { ca: path('ca.pem'), certificate: path('server.pem'), key: path('server.key') }
}

async function freePort(address: string): Promise<number> {
  const server = createTcpServer().listen(0, address)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

async function answers(address: string, port: number, registry: ChildProcess): Promise<void> {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline; ) {
    if (registry.exitCode !== null) throw new Error(`registry ended with ${registry.exitCode}`)
    const socket = connect(port, address)
    const ok = await Promise.race([
      once(socket, 'connect').then(
        () => true,
        () => false,
      ),
      systemClock.sleep(500).then(() => false),
    ])
    socket.destroy()
    if (ok) return
    await systemClock.sleep(25)
  }
  throw new Error(`no registry at ${address}:${port}`)
}
