import { createHttpListener, type HttpListener, silentLogger, systemClock } from '@roost/base'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createImageResolver, type ImageResolver, parseReference } from './image-resolver.ts'

const digest = (letter: string) => `sha256:${letter.repeat(64)}`

test.each([
  ['node', 'docker.io', 'library/node', 'latest', null],
  ['node:22-slim', 'docker.io', 'library/node', '22-slim', null],
  ['grafana/grafana:1', 'docker.io', 'grafana/grafana', '1', null],
  ['registry.internal/shop:v1', 'registry.internal', 'shop', 'v1', null],
  ['localhost:5000/a/b', 'localhost:5000', 'a/b', 'latest', null],
  [`ghcr.io/a/b@${digest('a')}`, 'ghcr.io', 'a/b', null, digest('a')],
  [`ghcr.io/a/b:v1@${digest('a')}`, 'ghcr.io', 'a/b', 'v1', digest('a')],
])('%s is read as docker does', (text, registry, repository, tag, wanted) => {
  expect(parseReference(text)).toEqual({ registry, repository, tag, digest: wanted })
})

test.each(['', 'A', 'a b', 'a@sha256:1', 'a:', '/a', 'registry.internal/', '../etc'])(
  '%j is no reference',
  (text) => {
    expect(() => parseReference(text)).toThrow('is no image reference')
  },
)

let registry: HttpListener
let resolver: ImageResolver
let asked: string[]
const images: Record<string, string> = {
  '/v2/shop/manifests/v1': digest('a'),
  [`/v2/shop/manifests/${digest('a')}`]: digest('a'),
  '/v2/docker.io/library/node/manifests/22-slim': digest('b'),
}

beforeEach(async () => {
  asked = []
  registry = createHttpListener({ log: silentLogger, errors: {} })
  registry.app.head('/v2/*', async (request, reply) => {
    asked.push(request.url)
    if (request.headers.authorization !== 'Bearer pull') return reply.code(401).send()
    const found = images[request.url]
    if (found === undefined) return reply.code(404).send()
    return reply.header('docker-content-digest', found).send()
  })
  const [bound] = await registry.listen([{ address: '127.0.0.1', port: 0 }])
  resolver = createImageResolver({
    registry: { name: 'registry.internal', url: `http://127.0.0.1:${bound?.port}` },
    ca: '',
    tokens: {
      issue: async () => ({ token: 'pull', expiresAt: 0 }),
      verify: async () => null,
    },
    clock: systemClock,
  })
})
afterEach(() => registry.close(100))

test('a tag becomes the digest that it stands for now', async () => {
  expect(await resolver.resolve('registry.internal/shop:v1')).toEqual({
    image: 'registry.internal/shop:v1',
    digest: digest('a'),
  })
  await resolver.resolve('registry.internal/shop:v1')
  expect(asked).toHaveLength(2)
})

test('a digest is looked for once', async () => {
  const reference = `registry.internal/shop@${digest('a')}`
  expect(await resolver.resolve(reference)).toEqual({ image: reference, digest: digest('a') })
  await resolver.resolve(reference)
  expect(asked).toHaveLength(1)
})

test("a public name is the mirror's first", async () => {
  expect(await resolver.resolve('node:22-slim')).toEqual({
    image: 'docker.io/library/node:22-slim',
    digest: digest('b'),
  })
})

test('what is nowhere is not found, in words that say where it was looked for', async () => {
  await expect(resolver.resolve('registry.internal/shop:v9')).rejects.toMatchObject({
    code: 'image_not_found',
    message: 'image registry.internal/shop:v9 not found: nothing of that name was pushed',
  })
  await expect(resolver.resolve('localhost:1/a/b:v1')).rejects.toMatchObject({
    code: 'image_not_found',
    message: expect.stringContaining('localhost:1/a/b:v1 is not in the mirror, and localhost:1'),
  })
})

test('a store that does not answer is no image that is missing', async () => {
  await registry.close(0)
  await expect(resolver.resolve('registry.internal/shop:v1')).rejects.toMatchObject({
    code: 'unavailable',
    retry: 'later',
  })
})
