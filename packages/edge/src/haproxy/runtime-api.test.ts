import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { createRuntimeApi } from './runtime-api.ts'

const closers: (() => void)[] = []
afterEach(() => {
  for (const closer of closers.splice(0)) closer()
})

/** A command line that answers each command with what `say` makes of it, in as small pieces as a network may make. */
async function commandLine(say: (command: string) => string) {
  const dir = await mkdtemp(join(tmpdir(), 'roost-cli-'))
  const path = join(dir, 'sock')
  const sockets: Socket[] = []
  const lines: string[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (data) => {
      for (const line of data.toString().split('\n').filter(Boolean)) {
        lines.push(line)
        const text = line
          .split('; ')
          .map((c) => `${say(c)}\n> `)
          .join('')
        for (const char of text) socket.write(char)
      }
    })
  })
  server.listen(path)
  await once(server, 'listening')
  closers.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
    void rm(dir, { recursive: true })
  })
  return { path, sockets, lines }
}

test('many commands share lines, and each has its own answer', async () => {
  const { path, lines } = await commandLine((c) => (c === 'prompt' ? '' : `did ${c}\n`))
  const api = createRuntimeApi({ path, onLost: () => {} })
  closers.push(() => api.disconnect())
  const commands = Array.from({ length: 130 }, (_, n) => `c${n}`)
  expect(await api.send(commands)).toEqual(commands.map((c) => `did ${c}`))
  expect(lines.length).toBe(4)
  const both = await Promise.all([api.send(['a', 'b']), api.send(['c'])])
  expect(both).toEqual([['did a', 'did b'], ['did c']])
})

test('what would be more than one command is refused', async () => {
  const api = createRuntimeApi({ path: '/nowhere', onLost: () => {} })
  for (const bad of ['a; b', 'a\nb', 'a\\'])
    await expect(api.send([bad])).rejects.toThrow('not one command')
})

test('the end of HAProxy is said, and the next command connects anew', async () => {
  const { path, sockets } = await commandLine((c) => (c === 'prompt' ? '' : 'ok'))
  let lost = () => {}
  const gone = new Promise<void>((resolve) => {
    lost = resolve
  })
  const api = createRuntimeApi({ path, onLost: () => lost() })
  closers.push(() => api.disconnect())
  expect(await api.send(['x'])).toEqual(['ok'])
  sockets[0]?.destroy()
  await gone
  expect(await api.send(['x'])).toEqual(['ok'])
  const nobody = createRuntimeApi({ path: `${path}.none`, onLost: () => {} })
  await expect(nobody.send(['x'])).rejects.toMatchObject({ code: 'unavailable' })
})
