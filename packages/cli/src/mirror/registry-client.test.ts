import { createServer } from 'node:http'
import { afterEach, expect, test } from 'vitest'
import { createRegistryClient, readBody } from './registry-client.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const closer of closers.splice(0)) await closer()
})

/** Ends so many connections without a word. */
async function registryThatDrops(count: number) {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.method ?? '')
    if (asked.length <= count) return void request.socket.destroy()
    response.end('here')
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  closers.push(() => new Promise((closed) => server.close(closed)))
  const { port } = server.address() as { port: number }
  return { asked, client: createRegistryClient({ url: `http://127.0.0.1:${port}` }) }
}

test('what changes nothing is asked again when nobody answers, three times in all', async () => {
  const once = await registryThatDrops(2)
  const reply = await once.client.request({ method: 'GET', path: '/v2/' })
  expect(await readBody(reply)).toBe('here')
  const never = await registryThatDrops(3)
  await expect(never.client.request({ method: 'HEAD', path: '/v2/' })).rejects.toMatchObject({
    code: 'unavailable',
  })
  expect(never.asked).toEqual(['HEAD', 'HEAD', 'HEAD'])
})

test('what changes something is asked once', async () => {
  const { asked, client } = await registryThatDrops(1)
  const call = { method: 'PUT', path: '/v2/a', body: 'x' } as const
  await expect(client.request(call)).rejects.toMatchObject({ code: 'unavailable' })
  expect(asked).toEqual(['PUT'])
})
