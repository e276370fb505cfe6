import { silentLogger, systemClock } from '@roost/base'
import type { AppName, Certificate, Host, HostId, Hostname } from '@roost/core'
import { expect, test, vi } from 'vitest'
import { startCertificateKeeper } from './keep-certificates.ts'
import { makeSealingKey, ownName } from './trial-certificate.ts'

test('a host whose sealing key is none is said once, and in the way of no other host or name', async () => {
  const hosts = ['a', 'b', 'c'].map(
    (id) => ({ id, name: id, sealingKey: makeSealingKey().publicKey }) as unknown as Host,
  )
  const [self, bad, good] = hosts.map(({ id }) => id) as [HostId, HostId, HostId]
  // One is too short, the other of the right length and still none.
  const broken = [Buffer.alloc(5), Buffer.alloc(32)].map((key) => key.toString('base64'))
  const names: Hostname[] = ['one.example.com', 'two.example.com'].map((name) =>
    ownName(name, 'shop' as AppName),
  )
  for (const sealingKey of broken) {
    const shelved = new Map(
      names.map(({ name }): [string, Certificate] => [
        name,
        {
          ...{ hostname: name, source: 'custom', chain: '', issuer: 'x', fingerprint: name },
          ...{ notBefore: 0, notAfter: Date.now() + 1e9, gotAt: 0, sealedKeys: { [self]: 's' } },
        },
      ]),
    )
    const error = vi.fn()
    const keeper = startCertificateKeeper({
      self,
      hosts: () => hosts.map((one) => (one.id === bad ? { ...one, sealingKey } : one)),
      isAlive: () => true,
      hostnames: () => names,
      settings: () => null,
      shelf: {
        byName: () => new Map([...shelved].map(([name, one]) => [name, [one]])),
        keyOf: async () => 'key',
        put: (one: Certificate) => shelved.set(one.hostname, one) !== undefined,
        unknownToServer: () => [],
        tidy: () => {},
      } as never,
      ...{ desk: null as never, edges: null as never, openAcme: null as never },
      report: async () => {},
      isDelegated: async () => false,
      present: async () => {},
      onChange: () => {},
      clock: systemClock,
      log: { ...silentLogger, error },
    })
    try {
      await vi.waitFor(() => {
        for (const { sealedKeys } of shelved.values())
          expect(Object.keys(sealedKeys).sort()).toEqual([self, good].sort())
      }, 3000)
      expect(error).toHaveBeenCalledTimes(1)
    } finally {
      await keeper.stop()
    }
  }
})
