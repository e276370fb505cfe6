import { expect, test } from 'vitest'
import { resolveUser } from './user.ts'

const passwd =
  'root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1001::/home/node:/bin/sh\n# odd\nbad:x:y:1:::\n'
const group = 'root:x:0:\nnode:x:1001:\naudio:x:29:root,node\nvideo:x:44:node\n'

test('no user is root', () => {
  expect(resolveUser('', passwd, group)).toEqual({
    uid: 0,
    gid: 0,
    additionalGids: [0, 29],
    home: '/root',
  })
  expect(resolveUser('', '', '')).toEqual({ uid: 0, gid: 0, additionalGids: [0], home: '/' })
})

test('a name brings its group, the groups that list it and its home', () => {
  const node = { uid: 1000, gid: 1001, additionalGids: [1001, 29, 44], home: '/home/node' }
  expect(resolveUser('node', passwd, group)).toEqual(node)
  expect(resolveUser('1000', passwd, group)).toEqual(node)
})

test('a named group stands alone', () => {
  expect(resolveUser('node:video', passwd, group)).toMatchObject({ gid: 44, additionalGids: [44] })
  expect(resolveUser('node:7', passwd, group)).toMatchObject({ uid: 1000, gid: 7 })
})

test('an unknown number stands for itself, an unknown name is refused', () => {
  expect(resolveUser('4242', passwd, group)).toEqual({
    uid: 4242,
    gid: 0,
    additionalGids: [0],
    home: '/',
  })
  expect(() => resolveUser('nobody', passwd, group)).toThrow('user "nobody" is not in /etc/passwd')
  expect(() => resolveUser('node:nope', passwd, group)).toThrow('group "nope" is not in /etc/group')
  expect(() => resolveUser('bad', passwd, group)).toThrow('user "bad"')
})
