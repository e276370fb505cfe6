import { once } from 'node:events'
import { connect } from 'node:net'
import { silentLogger } from '@roost/base'
import { expect, test } from 'vitest'
import { abstractPath } from '../haproxy/abstract-path.ts'
import { createRuntimeApi } from '../haproxy/runtime-api.ts'
import { createHoldRequests } from './hold-requests.ts'

const STATISTICS = `# pxname,svname,scur,slim,stot,status,lastchg,addr
s1,00000000000001.a0,0,25,0,UP,7,10.210.4.2:8080`

test('a name that is none is refused, and is in nobody’s way', async () => {
  const askSocket = `roost-hold-test-${process.pid}`
  const haproxy = createRuntimeApi({ path: '/nowhere', onLost() {} })
  const hold = createHoldRequests({
    askSocket,
    hostsMap: '/hosts.map',
    routes: () => [],
    services: () => new Map(),
    api: {
      async send(commands) {
        // Nobody is there; what is no command is refused before that is known.
        await haproxy.send(commands).catch((error: Error) => {
          if (error.message.includes('not one command')) throw error
        })
        return commands.map((one) => (one.startsWith('get map') ? 'value="s1"' : STATISTICS))
      },
    },
    knock: async () => {},
    log: silentLogger,
  })
  const server = await hold.listen()
  const ask = async (hostname: string) => {
    const socket = connect(abstractPath(askSocket)).setEncoding('utf8')
    socket.write(`${hostname} 0\n`)
    const [text] = await once(socket, 'data', { signal: AbortSignal.timeout(2000) })
    socket.destroy()
    return text
  }
  const answers = await Promise.all(['a;b.test', 'a\\b.test', 'shop.test'].map(ask))
  expect(answers).toEqual([
    'no 1 No app answers under this name.\n',
    'no 1 No app answers under this name.\n',
    'go\n',
  ])
  await server.close()
})
