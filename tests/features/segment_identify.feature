Feature: Every customer becomes a known user in Segment, or the shop learns why not
  A shop posts each of its customers to the relay. The relay passes the customer to Segment as an Identify call and
  answers only when it knows the outcome. These scenarios run against the real program. The sandbox stands in for
  Segment.

  Rule: What the shop knows about a customer arrives in Segment

    Scenario: A customer is accepted
      Given a customer with the userId "c-1042"
      When the shop sends the customer
      Then the customer is accepted
      And Segment got one Identify call, for the user "c-1042"

    Scenario: An e-mail address may serve as the userId
      Given a customer with the userId "ada@example.com"
      When the shop sends the customer
      Then the customer is accepted
      And Segment got one Identify call, for the user "ada@example.com"

    Scenario: The e-mail address
      Given a customer whose email is "ada@example.com"
      When the shop sends the customer
      Then the customer is accepted
      And Segment knows the email "ada@example.com" and nothing else

    Scenario: The name
      Given a customer whose name is "Ada Lovelace"
      When the shop sends the customer
      Then the customer is accepted
      And Segment knows the name "Ada Lovelace" and nothing else

    Scenario: The address
      Given a customer who lives at
        | street     | 12 St James Sq |
        | city       | London         |
        | postalCode | SW1Y           |
        | country    | GB             |
      When the shop sends the customer
      Then the customer is accepted
      And Segment knows this address and nothing else
        | street     | 12 St James Sq |
        | city       | London         |
        | postalCode | SW1Y           |
        | country    | GB             |

    Scenario: All traits together, verbatim
      Given a customer with the traits
        """
        {"email":"ada@example.com","name":"Ada Lovelace","address":{"city":"London","country":"GB"},"phone":"","title":null,"plan":"pro","points":9007199254740993,"balance":1.10}
        """
      When the shop sends the customer
      Then the customer is accepted
      And Segment got the traits word for word
        """
        {"email":"ada@example.com","name":"Ada Lovelace","address":{"city":"London","country":"GB"},"phone":"","title":null,"plan":"pro","points":9007199254740993,"balance":1.10}
        """

    Scenario Outline: Customers with all kinds of e-mail addresses
      Given a customer with the userId "<email>"
      And whose email is "<email>"
      When the shop sends the customer
      Then the customer is accepted
      And Segment got one Identify call, for the user "<email>"
      And Segment knows the email "<email>" and nothing else

      Examples:
        | email                          |
        | grace@example.com              |
        | grace.hopper+navy@example.com  |
        | o'neil@mail.example.co.uk      |
        | jürgen@bücher.example          |
        | GRACE@EXAMPLE.COM              |

    Scenario: A customer who has just signed up
      Given a customer with the userId "c-new"
      And whose createdAt is "2026-03-01T09:30:00.000Z"
      When the shop sends the customer
      Then the customer is accepted
      And Segment got one Identify call, for the user "c-new"
      And Segment knows the createdAt "2026-03-01T09:30:00.000Z" and nothing else

    Scenario: A customer who changes something later
      Given a customer with the userId "c-1042"
      And whose plan is "free"
      And the shop has sent the customer
      When the plan changes to "pro"
      And the shop sends the customer
      Then the customer is accepted
      And Segment got these plans of the user "c-1042", in this order
        | free |
        | pro  |

  Rule: Success means that Segment has the customer

    Scenario: Success is reported when Segment accepts
      Given a customer with the userId "c-1042"
      When the shop sends the customer
      Then the answer is 200 and says success, with the messageId under which Segment has the call

    Scenario: The answer waits for Segment
      Given Segment takes 300ms over every request
      When the shop sends the customer
      Then the customer is accepted
      And Segment had the customer before the shop had the answer

  Rule: A failure is reported and affects no other customer

    Scenario: Segment refuses a customer
      Given Segment refuses the next request with the words "traits are malformed"
      When the shop sends the customer
      Then the answer is 422 with the code "segment_rejected"
      And the message has the words "traits are malformed"
      And Segment got no call
      When the shop sends the customer
      Then the customer is accepted

    Scenario Outline: A customer without a userId is refused before anything is sent
      Given a customer with the userId "<userId>"
      When the shop sends the customer
      Then the answer is 422 with the code "invalid_payload"
      And the field "/userId" is named
      And Segment was not asked about this one, while it is about the next

      Examples:
        | userId          |
        |                 |
        | anonymous       |
        | Undefined       |
        | NULL            |
        | [object Object] |
        | 0000-0000       |

    Scenario: Without a write key the relay does not start
      Given nobody has set SEGMENT_WRITE_KEY
      When the relay is started
      Then it ends at once with exit code 2
      And it names SEGMENT_WRITE_KEY

    Scenario: Segment cannot be reached
      Given a relay that gives Segment 300ms, and the shop its answer within 1s
      And nobody listens where Segment should be
      When the shop sends the customer
      Then the answer is 502 with the code "segment_unavailable"
      And it says when to come back

    Scenario: Segment does not answer
      Given a relay that gives Segment 300ms, and the shop its answer within 1s
      And Segment never answers
      When the shop sends the customer
      Then the answer is 504 with the code "segment_timeout"
      And it says when to come back

    Scenario: Segment asks for a pause that is longer than the shop waits
      Given a relay that gives Segment 300ms, and the shop its answer within 1s
      And Segment asks everybody to come back after 30 seconds
      When the shop sends the customer
      Then the answer is 503 with the code "segment_rate_limited"
      And it says to come back after at most 30 seconds
      And Segment got no call
