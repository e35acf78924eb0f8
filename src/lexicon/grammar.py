"""The words of a Korean question that name no object: particles, numbers, counters, question and request forms.

A form is (kind, cost, tag): kinds are J particle, D number, C counter, F function word or phrase, R attributive verb;
the tag says what the form means to the query (see TAGS). Costs are relative: a known noun of two syllables costs 1.
"""

from src.lexicon.hangul import BIEUP, NIEUN, RIEUL, final_of, with_final

Form = tuple[str, float, str]

# tag -> what it says: count, find, exists, list: the intent; number: a noun that means "how many" after an object;
# scene: the picture itself; place: where (after a noun: the noun is a place); each: per object; exclude: not this one
TAGS = ("count", "find", "exists", "list", "number", "scene", "place", "each", "exclude", "and", "rel", "say", "")

TOPIC, SUBJECT, OBJECT, GENITIVE, WITH, PLACE, MEANS, COPULA, PLURAL, OTHER = (
    "topic", "subject", "object", "genitive", "with", "place", "means", "copula", "plural", "other",
)  # fmt: skip
# particle -> role; "+" goes after a final consonant only, "-" after a vowel only
PARTICLES = {
    TOPIC: "은+ 는-",
    SUBJECT: "이+ 가- 께서",
    OBJECT: "을+ 를-",
    GENITIVE: "의",
    WITH: "과+ 와- 랑- 이랑+ 하고 이나+ 이며+",
    PLACE: "에 에는 에도 에만 에서 에서는 에서도 엔 에선 에게 한테 까지 부터",
    MEANS: "로 으로 로는 으로는",
    PLURAL: "들",
    COPULA: "야- 이야+ 예요- 이에요+ 에요 이예요 입니까 입니다 인가 인가요 인지 인지요 이니+ 니- 이냐+ 냐- 이지+ 지 죠 지요 이죠+ "
    "일까 일까요 임 인데 인데요 인 이여 여 요 이요 인거야 인걸까 인건가 인가여 더라 이더라",
    OTHER: "도 만 만은 씩 쯤 정도 나 이라도 라도 이라는 라는 이란 란 처럼 보다 밖에 뿐 마다 조차 마저 별 별로 같은",
}

NATIVE = ("한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉", "열")
TENS = {"열": 10, "스물": 20, "서른": 30, "마흔": 40, "쉰": 50}
UNITS = {"한": 1, "두": 2, "세": 3, "네": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9}
WHOLE = {"하나": 1, "둘": 2, "셋": 3, "넷": 4, "다섯": 5, "여섯": 6, "일곱": 7, "여덟": 8, "아홉": 9, "열": 10}

EXTRA_COUNTERS = (
    "개 마리 명 분 사람 대 권 장 자루 켤레 짝 쌍 벌 채 동 척 병 잔 컵 캔 송이 그루 포기 알 톨 통 봉지 상자 박스 조각 판 줄 "
    "모 단 다발 접시 그릇 공기 인분 량 석 칸 군데 곳 점 갑 개비 자 필 매 세트 가지 종 종류 팩 포대 롤 타래 묶음 뭉치 방울 "
    "기 정 발 문 원 닢 부 편 대분 덩이 덩어리 꼬치 스푼 가닥 뿌리 줄기 톳 근 쪽 손 두름 층 구 인 놈 분의"
).split()  # fmt: skip
# a counter that names what it counts, for "몇 명이야?" without an object
COUNTER_MEANS = {"명": "person", "사람": "person", "분": "person", "마리": "animal"}

ENDINGS_IT = (
    "어 어요 니 나 나요 는가 는가요 는지 는지요 는지도 습니까 습니다 을까 을까요 냐 느냐 지 지요 죠 음 는데 는데요 다 었어 었나 "
    "었나요 대 네 네요 는거야 는건가 는건가요 는걸까 는거지 나여 어여 을지 는지를 는지가"
).split()  # fmt: skip
ATTRIBUTIVE_IT = "는 던 을 고 으면 어서 으니 는것 거나 지만".split()
REQUESTS = (
    "줘 줘요 줘라 주세요 주실래요 줄래 줄래요 주라 주십시오 주시겠어요 주시겠습니까 주시죠 주길 주렴 줄수있어 줄수있나요 "
    "줄수있을까 줄수있어요 줄수있니 달라 달라고 봐 봐요 봐줘 봐주세요 봐라 보세요 보자 볼래 볼래요 볼까 보아라 보렴 보시오 라 "
    "야해 내 내줘 내라 놓아줘 줄래요 주겠니 주겠어 주면돼 주면좋겠어 주기 주시오 주삼 주셈 줍쇼"
).split()  # fmt: skip

# verb in its -아/어 form -> tag; with a request after it, it asks for that
REQUEST_VERBS = {
    "find": "찾아 표시해 가리켜 골라 잡아 검출해 탐지해 감지해 짚어 보여 그려 박스쳐 박스해 체크해 찾아내 발견해 식별해 찍어 "
    "짚어서알려 표시하여 찾아서보여 찾아서알려 네모쳐 둘러 집어",
    "count": "세 세어 헤아려 카운트해 카운팅해 계산해 집계해 합산해 세어서알려 셈해 수를세 개수세",
    "say": "알려 말해 대답해 답해 가르쳐 갈켜 확인해 얘기해 이야기해 설명해 구해 보고해 출력해 적어 판단해 분석해 파악해 조사해 해 좀해",
    "list": "나열해 열거해 뽑아 추려 목록으로 분류해",
}
BARE = {
    "find": "찾아 찾기 찾자 찾아라 찾아내 찾고싶어 찾을수있어 찾을수있나요 찾을수있을까 찾는중 어디 어디야 어디에 어디에요 어디지 어디니 "
    "어디인가요 어딘가요 어디있어 어딨어 어딨나 어딨나요 어딨니 어딨지 어딨냐 어딨어요 어디있나 어디쯤 어느쪽 어느쪽에 위치 위치는 위치를 "
    "위치가 위치한곳 있는곳 있는위치 좌표 좌표를 박스 박스로 네모로 표시 검출 탐지 감지 가리켜 골라 보여줄수있어 찾음 찾는다 찾습니다",
    "count": "얼마나 얼마나많아 얼마나많이 얼마나되 얼마나돼 얼마나되나요 세어 셀수있어 셀수있나요 셀수있니 셀래 세기 세자 세라 세어라 셈 "
    "카운트 카운팅 합쳐서 합쳐 합해서 합치면 모두합쳐 세면 세어보면 세봤어 몇이야 몇인지 몇인가요 몇이지 몇일까",
    "list": "뭐 뭐가 뭐뭐 뭐야 뭔가 뭐가뭐가 뭐지 뭘까 뭐에요 뭐예요 뭐니 뭔지 무엇 무엇이 무엇들이 무엇인가 무엇인가요 무엇인지 무엇이야 무엇을 "
    "무슨 어떤 어떤것 어떤것이 어떤것들이 어떤게 어떤거 목록 목록을 리스트 나열 무엇무엇 뭐뭐가 뭣이 뭣",
    "exists": "맞아 맞아요 맞나 맞나요 맞습니까 맞지 맞니 맞을까 존재 여부 여부를 보여 보여요 보이나 보이나요 보이니 보입니까 보이는지 보이냐 "
    "보일까 보일까요 보이지 보이죠 보임 보인다 보이는데 보이던데 보여여 볼수있어 볼수있나요 볼수있을까 존재하나 존재하나요 존재해 존재합니까 "
    "존재하는지 존재하니 들어있는지 있긴해 있긴한가 있기는해 있기나해 있니없니 있어없어 나왔어 나왔나요 나오나요 나와 나옵니까 찍혔어 찍혔나요 "
    "찍혔니 찍혔나 찍힌게맞아 있어보여 있을까말까 인지아닌지 인가아닌가 인지확인",
}
PLACES = (
    "위 안 속 옆 앞 뒤 아래 밑 사이 근처 주변 주위 곁 가운데 중 중에 중에서 밖 쪽 구석 한쪽 표면 내부 외부 왼쪽 오른쪽 위쪽 아래쪽 앞쪽 뒤쪽 "
    "좌측 우측 상단 하단 중앙 중간 옆쪽 안쪽 바깥 바깥쪽 맞은편 건너편 너머 곳곳 한가운데"
).split()  # fmt: skip
SCENES = "사진 그림 이미지 화면 장면 영상 스냅샷".split()
NUMBER_NOUNS = "수 개수 갯수 숫자 수량 마릿수 마리수 대수 권수 장수 명수 인원수 머릿수 총수 총합 총개수 총갯수 합계 총계".split()
FILLERS = (
    "좀 그럼 혹시 지금 여기 여기에 여기서 저기 저기에 거기 거기에 이 그 저 이거 이건 이게 이것 저거 저건 저게 그거 그건 것 거 이중 그중 "
    "이중에 그중에 이곳 이곳에 이런 그런 저런 다 모두 모든 전부 전체 총 총합해서 여러 여러가지 많은 수많은 몇몇 각종 다양한 온갖 다른 또 또는 "
    "또한 정확히 정확하게 대략 대충 한번 다시 빨리 자세히 하나하나 일일이 가장 제일 아주 매우 너무 정말 진짜 실제로 과연 도대체 대체 "
    "안녕 안녕하세요 저기요 야 있잖아 나에게 나한테 내게 저한테 우리 나 내가 제가 저는 나는 네가 너 니가 궁금해 궁금해요 궁금하다 궁금합니다 "
    "궁금한데 알고싶어 알고싶어요 알고싶습니다 알수있어 알수있을까 알수있나요 알아 알아요 알아봐 알아봐줘 싶어 싶어요 싶은데 부탁해 부탁해요 "
    "부탁드려요 부탁드립니다 부탁 제발 해 해라 하라 하자 할래 해봐 해봐줘 해줄래 하세요 하시오 하십시오 하고 해서 할까 하면 됩니까 돼 돼요 "
    "되나요 되니 될까 되는지 되지 되죠 된 되어 된거야 있잖아 없는지 같아 같아요 것같아 어때 그리고 그럼 그러면 그러니까 근데 그런데 하나도 "
    "많아 많이 많나 많나요 많은지 적어 처음 오른 왼 동안 때 등등 개별 개별적으로 나와있는 좋겠어 좋겠다 바라 바랍니다 요청해 놓여 걸려 "
    "매달려 담겨 꽂혀 쌓여 들어 떠 붙어 박혀 그려져 세워져 놓인 달려 서 앉아 누워 자고 날고 뛰고 놀고 먹고 타고 들고 남아 모여 피어 켜져 "
    "깨져 열려 닫혀 주차돼 주차되어 심어져 진열돼 진열되어 정박해 정박되어 줄지어 함께 같이 나란히 가까이 멀리 크게 작게 실제 최소 최대 "
    "적어도 이상 이하 미만 초과 딱 꼭 바로 방금 이미 아직 벌써 봐 봐줘 봐봐 봐요 보고 봐주세요 대해 대한 대해서 관해 관한"
).split()  # fmt: skip
RELATIVES = (
    "쓴 쓰고있는 입은 입고있는 신은 신고있는 든 들고있는 들고 멘 메고있는 낀 끼고있는 찬 차고있는 두른 탄 타는 타고있는 모는 먹는 먹고있는 "
    "마시는 마시고있는 보는 읽는 읽고있는 치는 부는 던지는 차는 찍는 찍힌 끄는 미는 밀고있는 파는 사는 만드는 나르는 안은 안고있는 업은 쥔 "
    "쥐고있는 잡은 잡고있는 물고있는 매달린 매단 달린 달려있는 놓인 놓여있는 담긴 담겨있는 들어있는 든 걸린 걸려있는 꽂힌 꽂혀있는 쌓여있는 "
    "붙은 붙어있는 묶인 그려진 적힌 쓰인 새겨진 있는 없는 보이는 나오는 찍혀있는 위치한 가진 지닌 생긴 닮은 만든 된 노는 놀고있는 하는 가는 "
    "오는 기다리는 나온 나와있는 존재하는 속한 아닌 이용하는 연주하는 운전하는 정박한 정박해있는 둘러싸인 덮인"
).split()  # fmt: skip



def particle_forms() -> dict[str, tuple[str, int]]:
    """particle -> (role, shape): shape 1 goes after a final consonant only, −1 after a vowel only, 0 after either."""
    forms: dict[str, tuple[str, int]] = {}
    for role, text in PARTICLES.items():
        for word in text.split():
            shape = {"+": 1, "-": -1}.get(word[-1], 0)
            forms.setdefault(word.rstrip("+-"), (role, shape))
    return forms


def number_forms() -> dict[str, int]:
    """Native Korean numbers up to 59 → their value; those that stand before a counter (한, 두) and those alone (하나)."""
    forms = dict(UNITS) | WHOLE | {"스무": 20, "서": 3, "석": 3, "너": 4, "넉": 4}
    for tens, value in TENS.items():
        forms[tens] = value
        forms |= {tens + unit: value + n for unit, n in (UNITS | WHOLE).items() if n < 10}
    return forms


def counter_forms(counters: set[str]) -> dict[str, str]:
    """Spelling → counter: 마리, and what speech makes of it with the copula (마린가요, 마립니까, 갤까)."""
    forms = {counter: counter for counter in counters}
    for counter in counters:
        if final_of(counter[-1]):
            continue
        stem, last = counter[:-1], counter[-1]
        for final, endings in ((NIEUN, ("가", "가요", "지", "지요", "데", "가여")), (BIEUP, ("니까", "니다")), (RIEUL, ("까", "까요"))):
            forms |= {stem + with_final(last, final) + ending: counter for ending in endings}
    return forms


def function_forms() -> dict[str, list[Form]]:
    """Every function word and phrase, without its spaces, with what it means to a query."""
    forms: dict[str, list[Form]] = {}

    def add(words: list[str], kind: str, cost: float, tag: str) -> None:
        for word in words:
            if all((kind, tag) != (k, t) for k, _, t in forms.get(word, ())):
                forms.setdefault(word, []).append((kind, cost, tag))

    add([stem + ending for stem in ("있", "없", "계시", "들어있", "찍혀있") for ending in ENDINGS_IT], "F", 0.4, "exists")
    add(["있는지없는지", "있나없나", "있는지여부", "있는지확인"], "F", 0.4, "exists")
    add([stem + ending for stem in ("있", "없", "계시") for ending in ATTRIBUTIVE_IT], "F", 0.5, "rel")
    for tag, verbs in REQUEST_VERBS.items():
        add([verb + request for verb in verbs.split() for request in REQUESTS], "F", 0.4, tag)
    for tag, words in BARE.items():
        add(words.split(), "F", 0.4, tag)
    add(PLACES, "F", 0.6, "place")
    add(SCENES, "F", 0.6, "scene")
    add(NUMBER_NOUNS, "F", 0.5, "number")
    add("각각 각각의 각자 각 종류별 종류별로 종별 따로따로 따로 하나씩".split(), "F", 0.4, "each")
    add("종류 종류가 종류는 종류를".split(), "F", 0.6, "list")
    add("말고 빼고 제외하고 제외한 아니라 아니고 대신".split(), "F", 0.4, "exclude")
    add("및 그리고 또는 혹은 아니면 이랑 하고".split(), "F", 0.5, "and")
    add(FILLERS, "F", 0.6, "")
    add(RELATIVES, "R", 0.6, "")
    return forms
