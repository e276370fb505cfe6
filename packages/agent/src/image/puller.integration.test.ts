import { randomBytes } from 'node:crypto'
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { ImageStore } from '../containerd/image-store.ts'
import { raiseTrialHost, type TrialAgent, type TrialHost } from '../containerd/trial-host.ts'
import type { ImageToPull } from '../runtime.ts'
import { ImagePuller, imageName } from './puller.ts'
import type { RegistryRepository } from './registry.ts'

const NEVER = new AbortController().signal
const trial: { host?: TrialHost; agent?: TrialAgent; servers: Server[] } = { servers: [] }

beforeAll(async () => {
  trial.host = await raiseTrialHost()
  trial.agent = await trial.host.openAgent()
})
afterEach(() => {
  for (const server of trial.servers.splice(0)) server.close().closeAllConnections()
})
afterAll(async () => {
  await trial.agent?.close()
  await trial.host?.close()
})

interface Front {
  readonly url: string
  /** `GET /v2/…` by path, with the range that was asked for. */
  readonly asked: string[]
}

/** The registry behind a door that wants a token and can break off in the middle of a blob. */
async function front(options: {
  readonly token?: string
  readonly breaks?: number
}): Promise<Front> {
  const asked: string[] = []
  let breaks = options.breaks ?? 0
  const server = createServer((incoming, reply) => {
    const { url = '', headers } = incoming
    const self = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    if (url.startsWith('/token')) return reply.end(JSON.stringify({ token: options.token }))
    if (options.token !== undefined && headers.authorization !== `Bearer ${options.token}`) {
      const challenge = `Bearer realm="${self}/token",service="trial",scope="repository:x:pull"`
      return reply.writeHead(401, { 'www-authenticate': challenge }).end()
    }
    asked.push(`${url.split('/').at(-2)} ${headers.range ?? ''}`.trim())
    const upstream = request(`${trial.host?.registryUrl}${url}`, { headers }, (answer) => {
      reply.writeHead(answer.statusCode ?? 500, answer.headers)
      const cut = url.includes('/blobs/') && Number(answer.headers['content-length']) > 1_000_000
      if (!cut || breaks === 0) return answer.pipe(reply)
      breaks--
      let sent = 0
      answer.on('data', (chunk: Buffer) => {
        sent += chunk.length
        if (sent < 1_000_000) reply.write(chunk)
        else reply.destroy()
      })
      return answer
    })
    return upstream.end()
  })
  trial.servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
}

function pullerAt(...places: readonly Partial<RegistryRepository>[]) {
  if (!trial.agent) throw new Error('no agent')
  const store = new ImageStore(trial.agent.client)
  const puller = new ImagePuller({
    store,
    places: (name) =>
      places.map((place) => ({ name, url: '', path: name, ca: null, token: null, ...place })),
  })
  return { store, puller }
}

/** Nothing of it can be there yet; one layer of 3 MB. */
async function freshImage(repository: string): Promise<ImageToPull> {
  if (!trial.host) throw new Error('no host')
  const layers = [
    { data: { content: randomBytes(3_000_000) } },
    { more: { content: randomBytes(100) } },
  ]
  return trial.host.push(repository, { layers, config: { Cmd: ['/x'] } })
}

test('our own token opens our registry', async () => {
  const image = await freshImage('own')
  const { url } = await front({ token: 'secret' })
  const { puller, store } = pullerAt({ url, token: async () => 'secret' })
  await puller.pull(image, NEVER)
  expect((await store.find(imageName(image)))?.run.cmd).toEqual(['/x'])
})

test('a public registry gives anybody a token', async () => {
  const image = await freshImage('public')
  const { url } = await front({ token: 'anonymous' })
  const { puller, store } = pullerAt({ url })
  await puller.pull(image, NEVER)
  expect(await store.find(imageName(image))).toBeDefined()
})

test('a registry that refuses us has no such image; the next place is asked', async () => {
  const image = await freshImage('elsewhere')
  const refusing = await front({ token: 'unknown' })
  const open = await front({})
  const wrong = { url: refusing.url, token: async () => 'wrong' }
  await expect(pullerAt(wrong).puller.pull(image, NEVER)).rejects.toMatchObject({
    code: 'image_not_found',
    retry: 'never',
  })
  const { puller, store } = pullerAt(wrong, { url: open.url })
  await puller.pull(image, NEVER)
  expect(await store.find(imageName(image))).toBeDefined()
})

test('a download that broke off goes on where it stood', async () => {
  const image = await freshImage('broken')
  const door = await front({ breaks: 1 })
  const { puller, store } = pullerAt({ url: door.url })
  await expect(puller.pull(image, NEVER)).rejects.toMatchObject({ retry: 'later' })
  await puller.pull(image, NEVER)
  expect(await store.find(imageName(image))).toBeDefined()
  expect(door.asked.some((line) => /^blobs bytes=[1-9]\d*-$/.test(line))).toBe(true)
})

test('many who want the same image make one download; what is there makes none', async () => {
  const image = await freshImage('wanted')
  const door = await front({})
  const { puller } = pullerAt({ url: door.url })
  await Promise.all(Array.from({ length: 5 }, () => puller.pull(image, NEVER)))
  expect(door.asked.filter((line) => line.startsWith('blobs'))).toHaveLength(3)
  const before = door.asked.length
  await puller.pull(image, NEVER)
  expect(door.asked).toHaveLength(before)
})

test('one who leaves does not end it for the others, and the last one does', async () => {
  const image = await freshImage('left')
  const { url } = await front({})
  const { puller, store } = pullerAt({ url })
  const leave = new AbortController()
  const first = puller.pull(image, leave.signal)
  const second = puller.pull(image, NEVER)
  first.catch(() => {})
  leave.abort()
  await expect(first).rejects.toThrow()
  await second
  expect(await store.find(imageName(image))).toBeDefined()
})
